"""Upscale and measure the pictures of a dataset: what testing and validation during training share."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from hriusr.data.image_io import tensor_to_image, write_image
from hriusr.data.matlab_resize import imresize
from hriusr.errors import DataError
from hriusr.metrics.measure import MetricOptions, measure
from hriusr.metrics.report import PictureRow
from hriusr.models.sr_model import RestorationModel
from hriusr.upscaling.tiling import tile_upscale

logger = logging.getLogger(__name__)

T = TypeVar("T")
_NOTHING = object()


class SeenPictures(NamedTuple):
    """What one picture of a validation looks like: (H, W, C) RGB or grey uint8."""

    lq_HWC: np.ndarray
    result_HWC: np.ndarray
    gt_HWC: np.ndarray | None


# called after each picture: number of pictures done, its row, its pictures
OnPicture = Callable[[int, PictureRow, SeenPictures], None]


def validate(
    model: RestorationModel,
    batches: Iterable[Mapping[str, Any]],
    *,
    dataset_name: str,
    metrics_opt: MetricOptions,
    tile_opt: Mapping[str, int] | None = None,
    with_bicubic: bool = False,
    save_path: Callable[[str], Path] | None = None,
    on_picture: OnPicture | None = None,
    dataset_opt: Mapping[str, Any] | None = None,
) -> list[PictureRow]:
    """Upscale pictures one by one and measure them as the 8-bit files they would be saved as.

    Args:
        model: its running mean is used where there is one, in its precision; net_g is left in its mode.
        batches: dicts with lq (1, C, H, W), lq_path [str] and, where there is a ground truth, gt (1, C, H*s, W*s).
        dataset_name: for the rows.
        metrics_opt: label -> metric.
        tile_opt: tile_size, tile_pad, batch_size; None: whole pictures.
        with_bicubic: measure MATLAB's bicubic enlargement of lq, rounded to 8 bits, too.
        save_path: image name -> where to save the result; None: nowhere.
        on_picture: progress; may raise to stop.
        dataset_opt: says how pictures were normalised and where they lie; None: the options of batches.dataset, where
            there is one.

    Returns:
        One row a picture.

    Raises:
        DataError: ground truth of another size than the result.
    """
    rows: list[PictureRow] = []
    if dataset_opt is None:
        dataset_opt = getattr(getattr(batches, "dataset", None), "opt", {})
    ambiguous = _ambiguous_names(getattr(batches, "dataset", None), dataset_opt)
    for number, batch in enumerate(batches, start=1):
        path = batch["lq_path"][0]
        name = picture_name(path, dataset_opt)
        if name in ambiguous:  # a.png and a.jpg: the second result would overwrite the first
            name += Path(path).suffix
        start = time.perf_counter()
        result_BCHW = upscale_picture(model, batch["lq"], tile_opt).cpu()  # waits for the device, which counts
        seconds = time.perf_counter() - start
        where = f"{dataset_name}/{name}"
        is_finite = bool(result_BCHW.isfinite().all())
        if not is_finite:
            logger.warning(
                "%s: the network's output is NaN or infinite, so it is not measured: use other weights", where
            )
            result_BCHW = result_BCHW.nan_to_num(nan=0.0)
        result_HWC, lq_HWC, gt_HWC = (
            None if picture is None else tensor_to_image(without_normalisation(picture, dataset_opt))
            for picture in (result_BCHW, batch["lq"], batch.get("gt"))
        )
        if gt_HWC is not None and gt_HWC.shape != result_HWC.shape:
            raise DataError(
                f"{where}: the result is {_size(result_HWC)}, the ground truth {_size(gt_HWC)}; "
                "check scale, network_g.upscale and that lq and gt are the same picture"
            )
        metrics = measure(result_HWC, gt_HWC, metrics_opt, on_failure=partial(logger.warning, "%s: %s", where))
        if not is_finite:
            metrics = dict.fromkeys(metrics, math.nan)
        bicubic = {}
        if with_bicubic and gt_HWC is not None:
            bicubic_HWC = imresize(lq_HWC, size=result_HWC.shape[:2])
            bicubic = measure(bicubic_HWC, gt_HWC, metrics_opt, on_failure=logger.debug)
        if save_path is not None:
            write_image(save_path(name), result_HWC)
        rows.append(PictureRow(dataset_name, name, *result_HWC.shape[:2], metrics, bicubic, seconds))
        if on_picture is not None:
            on_picture(number, rows[-1], SeenPictures(lq_HWC, result_HWC, gt_HWC))
    return rows


def picture_name(path: str, dataset_opt: Mapping[str, Any]) -> str:
    """Return what a picture is called: a database's key, or its path below the dataset's folder without ending.

    Args:
        path: key, or path of a file.
        dataset_opt: io_backend, dataroot_lq, dataroot_gt.

    Returns:
        "baby"; "set/baby" for one in a folder below.
    """
    if (dataset_opt.get("io_backend") or {}).get("type") == "lmdb":
        return path
    file = Path(path)
    roots = [Path(root) for root in map(dataset_opt.get, ("dataroot_lq", "dataroot_gt")) if root]
    below = next((file.relative_to(root) for root in roots if file.is_relative_to(root)), Path(file.name))
    return below.with_suffix("").as_posix()


def _ambiguous_names(dataset: Any, dataset_opt: Mapping[str, Any]) -> set[str]:
    """Return the names that several pictures of a dataset have, whichever process is given them."""
    dataset = getattr(dataset, "dataset", dataset)  # build_val_loader wraps it
    paths = [pair.lq or pair.gt for pair in getattr(dataset, "pairs", ())] or getattr(dataset, "paths", ())
    counts = Counter(picture_name(path, dataset_opt) for path in paths if isinstance(path, (str, Path)))
    return {name for name, count in counts.items() if count > 1}


def without_normalisation(picture_BCHW: Tensor, dataset_opt: Mapping[str, Any]) -> Tensor:
    """Undo a dataset's mean and std, so that a picture is 0..1 again."""
    if dataset_opt.get("std"):
        picture_BCHW = picture_BCHW * picture_BCHW.new_tensor(dataset_opt["std"])[:, None, None]
    if dataset_opt.get("mean"):
        picture_BCHW = picture_BCHW + picture_BCHW.new_tensor(dataset_opt["mean"])[:, None, None]
    return picture_BCHW


def in_dataset_order(shares: Sequence[Sequence[T]]) -> list[T]:
    """Put what processes made of their shares (build_val_loader) back into the order of the dataset."""
    return [item for items in zip_longest(*shares, fillvalue=_NOTHING) for item in items if item is not _NOTHING]


def upscale_picture(model: RestorationModel, lq_BCHW: Tensor, tile_opt: Mapping[str, int] | None) -> Tensor:
    """Upscale pictures whole or in tiles.

    Args:
        model: see validate.
        lq_BCHW: range 0..1.
        tile_opt: see validate.

    Returns:
        Pictures (B, C, H*scale, W*scale), not clamped, on the CPU where tiled.
    """
    if tile_opt is None:
        return model.upscale(lq_BCHW)
    network = model.inference_network
    with torch.no_grad():
        return tile_upscale(
            network,
            lq_BCHW,
            scale=model.opt["scale"],
            tile_size=tile_opt["tile_size"],
            tile_overlap=tile_opt.get("tile_pad", 32),
            batch_size=tile_opt.get("batch_size", 1),
            device=model.device,
            precision=model.precision.name,
        )


def _size(image_HWC: np.ndarray) -> str:
    return f"{image_HWC.shape[1]}x{image_HWC.shape[0]}x{image_HWC.shape[2]}"
