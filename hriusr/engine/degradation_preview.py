"""Show what a blind super-resolution training sees: one picture, degraded many times."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError

from hriusr.data.degradations.draws import degradation_generator, draw_sample, kernel_generator
from hriusr.data.degradations.filters import sharpen
from hriusr.data.degradations.kernels import draw_kernels
from hriusr.data.degradations.pipeline import degrade
from hriusr.data.degradations.settings import KernelSettings, StagesSettings
from hriusr.data.image_io import image_to_tensor, read_image, tensor_to_image, write_image
from hriusr.data.transforms import crop_to_multiple
from hriusr.errors import DataError, OptionsError
from hriusr.options.degradation_schema import DEGRADING_MODELS, DegradationOptions, KernelOptions
from hriusr.options.inheritance import read_with_bases

logger = logging.getLogger(__name__)

_SHEET_COLUMNS = 4
_SHEET_GAP = 4  # pixels between the pictures of the sheet


def preview_degradations(
    picture: str | Path,
    folder: str | Path,
    *,
    count: int = 8,
    seed: int = 0,
    scale: int = 4,
    option_file: str | Path | None = None,
) -> list[Path]:
    """Degrade a picture as training samples 0, 1, 2 ... of a run would be, and write the results.

    Args:
        picture: a sharp picture; it is used whole.
        folder: gets <name>_degraded_<number>.png and <name>_sheet.png, all of them side by side.
        count: how many.
        seed: of the draws: manual_seed of a run.
        scale: how much smaller the results are; an option file's scale goes before.
        option_file: whose degradations are taken; None: Real-ESRGAN's.

    Returns:
        The files.

    Raises:
        DataError: the picture cannot be read or is smaller than scale.
        OptionsError: the option file has wrong degradations, or its model draws none.
    """
    values = _read_options(option_file) if option_file else {}
    scale = values.get("scale", scale)
    stages, kernels = StagesSettings.from_options(values), KernelSettings.from_options(values)
    image_HWC = crop_to_multiple(read_image(picture), scale)
    if 0 in image_HWC.shape:
        raise DataError(f"{picture} is smaller than scale (={scale}): take a larger picture")
    source = image_to_tensor(image_HWC)[None]
    if values.get("gt_usm") is not False:
        source = sharpen(source)
    results = []
    for position in range(count):
        drawn = draw_kernels(kernels, kernel_generator(seed, position))
        draw = draw_sample(stages, degradation_generator(seed, position))
        logger.info("sample %d: %s", position, draw)
        tensors = [torch.from_numpy(kernel_KK)[None] for kernel_KK in drawn]
        results.append(tensor_to_image(degrade(source, *tensors, [draw], scale)))
    stem = Path(picture).stem
    paths = [Path(folder, f"{stem}_degraded_{number}.png") for number in range(count)]
    for path, result_HWC in zip(paths, results, strict=True):
        write_image(path, result_HWC)
    write_image(Path(folder, f"{stem}_sheet.png"), _sheet(results))
    return [*paths, Path(folder, f"{stem}_sheet.png")]


def _sheet(images: list[np.ndarray]) -> np.ndarray:
    """Put pictures of one size side by side, in rows of four."""
    height, width = images[0].shape[:2]
    columns = min(_SHEET_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    step = height + _SHEET_GAP, width + _SHEET_GAP
    sheet = np.full((rows * step[0] - _SHEET_GAP, columns * step[1] - _SHEET_GAP, 3), 255, np.uint8)
    for number, image_HWC in enumerate(images):
        top, left = number // columns * step[0], number % columns * step[1]
        sheet[top : top + height, left : left + width] = image_HWC
    return sheet


def _read_options(path: str | Path) -> dict[str, Any]:
    """Read and check what an option file says about degradations; its data need not be here."""
    values = read_with_bases(Path(path)).values
    model = values.get("model_type")
    if model is not None and model not in DEGRADING_MODELS:
        raise OptionsError(
            f"{path}: model_type {model!r} draws no degradations (lq_noise and lq_jpeg_quality are the same for all "
            f"samples): name a file of {', '.join(DEGRADING_MODELS)}"
        )
    dataset = _section(values.get("datasets"), path).get("train") or {}
    read = {**_checked(DegradationOptions, values, path), **_checked(KernelOptions, dataset, path)}
    scale = values.get("scale")
    if scale is not None and not (isinstance(scale, int) and not isinstance(scale, bool) and scale > 0):
        raise OptionsError(f"{path}: scale (={scale!r}) must be a positive whole number")
    return {**read, "scale": scale} if scale else read


def _section(values: Any, path: str | Path) -> dict[str, Any]:
    if values is not None and not isinstance(values, dict):
        raise OptionsError(f"{path}: a section of `key: value` lines is wanted, not {values!r}")
    return values or {}


def _checked(section: type[BaseModel], values: Any, path: str | Path) -> dict[str, Any]:
    own = {key: value for key, value in _section(values, path).items() if key in section.model_fields}
    try:
        return section.model_validate(own).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise OptionsError(f"{path}: {key} (={first['input']!r}): {first['msg']}") from None
