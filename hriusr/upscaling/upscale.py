"""`hriusr upscale`: a picture or a folder of pictures through a network, each result written whole or not at all.

One picture that cannot be read or written does not stop the others: it gets a line, and the report says so at the end.
"""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from hriusr.archs.weights import network_from_weights
from hriusr.data.image_io import image_size
from hriusr.data.picture import read_picture, write_picture
from hriusr.errors import DataError, HriusrError, OptionsError
from hriusr.models.precision import Precision, named_device
from hriusr.upscaling.display import UpscaleDisplay
from hriusr.upscaling.jobs import Job, plan_jobs
from hriusr.upscaling.picture_upscaler import PictureUpscaler

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    Attributes:
        name: the picture's path below the input folder.
        target: where its result is, or would be.
        status: "written", "skipped" (the result exists) or "failed".
        reason: why it was skipped or failed, one line.
        num_pixels: of the result; 0 unless written.
        seconds: reading, computing and writing.
    """

    name: str
    target: Path
    status: str
    reason: str = ""
    num_pixels: int = 0
    seconds: float = 0.0


@dataclass
class UpscaleReport:
    """Outcomes of a run, in the order of the pictures."""

    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scale: int = 1

    def having(self, status: str) -> list[Outcome]:
        """Return the outcomes of one status."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def failures(self) -> list[Outcome]:
        """Return the pictures that failed; empty means that an entry point should exit with 0."""
        return self.having("failed")

    def summary(self) -> str:
        """Say in one line how the run went."""
        written = self.having("written")
        seconds = sum(outcome.seconds for outcome in written)
        num_pixels = sum(outcome.num_pixels for outcome in written)
        parts = [f"{len(written)} of {len(self.outcomes)} picture(s) written"]
        if written:
            where = (
                written[0].target if len(self.outcomes) == 1 else os.path.commonpath([w.target.parent for w in written])
            )
            parts[0] += f" to {where}"
            parts.append(f"x{self.scale}, {num_pixels / 1e6:.1f} megapixels in {seconds:.1f} s")
        if self.having("skipped"):
            parts.append(f"{len(self.having('skipped'))} skipped")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        return ", ".join(parts)


def upscale_path(
    input_path: str | Path,
    output_path: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    network: nn.Module | None = None,
    network_settings: Mapping[str, Any] | None = None,
    tile_size: int | None = None,
    tile_overlap: int | None = None,
    batch_size: int | None = None,
    precision: str = "fp32",
    device: str | torch.device | None = None,
    suffix: str | None = None,
    extension: str | None = None,
    recursive: bool = True,
    overwrite: bool = False,
    jpeg_quality: int = 95,
    console: Console | None = None,
) -> UpscaleReport:
    """Upscale a picture or all pictures of a folder.

    16 bits, grey and transparency are kept, the orientation in EXIF is applied.

    Args:
        input_path: a picture (PNG, JPEG, WebP, TIFF, BMP) or a folder of pictures.
        output_path: for a picture a file or a folder, for a folder a folder. None: `<name>_x<scale>` beside the input.
        weights: file (.pth or .safetensors) of a network of ours, or published of SwinIR, HAT, Swin2SR, RRDBNet.
        network: a network instead of weights.
        network_settings: constructor arguments, where the weights' file is wrong or silent.
        tile_size: low-resolution pixels a side that are a tile's own (HAT's `tile_size`). None: planned from free
            memory, see memory_plan.py. 0: whole pictures.
        tile_overlap: pixels read around a tile (HAT's `tile_pad`). None: two windows of the network, 16 to 32.
        batch_size: tiles at once. None: as many as fit on a GPU, one on a CPU.
        precision: fp32, bf16 or fp16; a tile that is not finite in half precision is computed again in fp32.
        device: "cpu", "cuda", "cuda:1"... None: the GPU where there is one.
        suffix: put behind each result's name, before its extension. None: `_x<scale>` where results lie beside the
            inputs, else nothing.
        extension: format of the results, "png", "jpg", "tif"... None: that of each picture if lossless, else PNG.
        recursive: also the folders below; their structure is kept.
        overwrite: replace results that exist, instead of skipping their pictures. An input is never replaced.
        jpeg_quality: 0..100, for results in JPEG.
        console: where the progress bar, a line for each picture that fails, and the summary go. None: no bar, and
            the lines go to the logger.

    Returns:
        What became of each picture; `report.failures` is empty where all went well.

    Raises:
        OptionsError: an option is out of range, or both or neither of weights and network are given.
        DataError: the input is missing or holds no picture, or the output cannot be a folder.
        WeightsError: the weights are missing, damaged, or do not say what network they belong to.
    """
    _check_options(tile_size, tile_overlap, batch_size, precision, jpeg_quality)
    if (weights is None) == (network is None):
        raise OptionsError("give weights (a file) or a network, one of the two")
    if not Path(input_path).exists():  # before seconds of loading
        raise DataError(f"{input_path} does not exist: check the path")
    upscaler = PictureUpscaler(
        network_from_weights(weights, settings=network_settings) if network is None else network,
        device=named_device(device),
        precision=precision,
        tile_size=tile_size,
        tile_overlap=tile_overlap,
        batch_size=batch_size,
    )
    job_list = plan_jobs(
        input_path, output_path, scale=upscaler.scale, suffix=suffix, extension=extension, recursive=recursive
    )
    report = UpscaleReport(notes=job_list.notes, scale=upscaler.scale)
    with UpscaleDisplay(console, [_source_pixels(job) * upscaler.scale**2 for job in job_list.jobs]) as display:
        for note in job_list.notes:
            display.line("note", note)
        try:
            for number, job in enumerate(job_list.jobs):
                display.begin(number, job.name)
                outcome = _run_job(job, upscaler, display, overwrite=overwrite, jpeg_quality=jpeg_quality)
                report.outcomes.append(outcome)
                if outcome.reason:
                    display.line(outcome.status, f"{outcome.name}: {outcome.reason}")
        finally:  # also after Ctrl-C
            display.close(report.summary())
    return report


def _check_options(
    tile_size: int | None, tile_overlap: int | None, batch_size: int | None, precision: str, jpeg_quality: int
) -> None:
    problems = [
        f"{name} (={value}) must be at least {least}"
        for name, value, least in (
            ("tile_size", tile_size, 0),
            ("tile_overlap", tile_overlap, 0),
            ("batch_size", batch_size, 1),
        )
        if value is not None and value < least
    ]
    try:
        Precision(precision, torch.device("cpu"))
    except OptionsError as error:
        problems.append(str(error))
    if not 0 <= jpeg_quality <= 100:
        problems.append(f"jpeg_quality (={jpeg_quality}) must lie between 0 and 100")
    if problems:
        raise OptionsError("\n".join(problems))


def _source_pixels(job: Job) -> int:
    """Read a picture's size from its header, for the progress bar; 0 where it has none to read."""
    try:
        height, width = image_size(job.source)
    except HriusrError:
        return 0
    return height * width


def _run_job(
    job: Job, upscaler: PictureUpscaler, display: UpscaleDisplay, *, overwrite: bool, jpeg_quality: int
) -> Outcome:
    """Upscale one picture; whatever goes wrong with it becomes an outcome."""
    started = time.perf_counter()
    try:
        if job.target.exists() and not overwrite:
            return Outcome(job.name, job.target, "skipped", f"{job.target} exists: allow to overwrite it, or remove it")
        if job.replaces_input:
            raise DataError(f"its result would replace the input {job.target}: choose another output or suffix")
        _check_writable(job.target)
        picture = read_picture(job.source)
        result = upscaler.upscale(picture, display.fraction)
        write_picture(job.target, result, jpeg_quality=jpeg_quality)
    except Exception as error:  # one picture's trouble must not end the batch
        logger.debug("%s failed", job.source, exc_info=True)
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        if not isinstance(error, HriusrError):
            reason = f"{type(error).__name__}: {reason}"
        return Outcome(job.name, job.target, "failed", reason)
    height, width = result.colour_HWC.shape[:2]
    return Outcome(job.name, job.target, "written", "", height * width, time.perf_counter() - started)


def _check_writable(target: Path) -> None:
    """Find a read-only folder before minutes of computing, not after."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {target.parent} ({error.strerror}): choose another output") from None
    if not os.access(target.parent, os.W_OK):
        raise DataError(f"the folder {target.parent} is read-only: choose another output")
