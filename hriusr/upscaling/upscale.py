"""`hriusr upscale`: pictures and videos through a network, each result written whole or not at all.

One picture that cannot be read or written does not stop the others: it gets a line, and the report says so at the end.
With several processes, pictures of many tiles are computed by all of them together, the others shared out.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from hriusr.errors import HriusrError, OptionsError
from hriusr.models.precision import Precision, named_device
from hriusr.pictures.source import MAX_PIXELS, count_pixels
from hriusr.upscaling.aftermath import Stamp, stamp_of, written_since
from hriusr.upscaling.display import UpscaleDisplay
from hriusr.upscaling.inputs import find_inputs
from hriusr.upscaling.job_runner import JobRunner, unfinished_notes
from hriusr.upscaling.jobs import Job, plan_jobs
from hriusr.upscaling.load_networks import load_networks
from hriusr.upscaling.outcome import Outcome, UpscaleReport
from hriusr.upscaling.output_size import OutputSize
from hriusr.upscaling.picture_upscaler import PictureUpscaler, TileOptions
from hriusr.upscaling.sharing import ALONE, TileSharing

logger = logging.getLogger(__name__)

_SHARED_FROM = 768**2  # pixels of a source from which all processes compute it together, tile by tile


def upscale_path(
    inputs: str | Path | Sequence[str | Path],
    output_path: str | Path | None = None,
    *,
    weights: str | Path | Sequence[str | Path] | None = None,
    network: nn.Module | None = None,
    network_settings: Mapping[str, Any] | None = None,
    self_ensemble: bool = False,
    compiles: bool = False,
    size: OutputSize | None = None,
    tiles: TileOptions | None = None,
    checks_seams: bool = False,
    device: str | torch.device | None = None,
    suffix: str | None = None,
    extension: str | None = None,
    recursive: bool = True,
    overwrite: bool = False,
    jpeg_quality: int = 95,
    max_pixels: int | None = MAX_PIXELS,
    console: Console | None = None,
    sharing: TileSharing = ALONE,
    local_rank: int = 0,
) -> UpscaleReport:
    """Upscale pictures and videos.

    8 and 16 bits and float, grey, transparency, colour profile, EXIF and the frames of animations are kept.

    Args:
        inputs: a file, a folder or a pattern, or several of them.
        output_path: for a picture a file or a folder, else a folder. None: `<name>_x<scale>` beside the input.
        weights: file (.pth or .safetensors) of a network of ours, or published of SwinIR, HAT, Swin2SR, RRDBNet; an
            .onnx that we exported; or the name of weights that come with hriusr. The results of several are averaged.
        network: a network instead of weights.
        network_settings: constructor arguments, where the weights' file is wrong or silent.
        self_ensemble: average over the eight flips and turns of the input; eight times as long. Only with weights.
        compiles: use torch.compile; pays for many tiles of one size. Only with weights.
        size: of results; None: the network's scale.
        tiles: how pictures are cut and computed.
        checks_seams: compare each result at seams with the same pixels computed amid more of the picture.
        device: "cpu", "cuda", "cuda:1"... None: the GPU where there is one.
        suffix: put behind each result's name, before its extension. None: `_x<scale>` where results lie beside the
            inputs, else nothing.
        extension: format of the results, "png", "jpg", "tif"... None: that of each picture if lossless, else PNG.
        recursive: also the folders below; their structure is kept.
        overwrite: replace results that exist, instead of skipping their pictures. An input is never replaced.
        jpeg_quality: 0..100, for results in JPEG.
        max_pixels: of a source, all frames together; None: no limit.
        console: where the progress bar, a line for each picture that fails, and the summary go. None: no bar, and
            the lines go to the logger.
        sharing: the processes of this run.
        local_rank: number of this process on its machine: which GPU it takes.

    Returns:
        What became of each picture; `report.failures` is empty where all went well. Whole in process 0 only.

    Raises:
        OptionsError: an option is out of range, or both or neither of weights and network are given.
        DataError: the input is missing or holds no picture, or the output cannot be a folder.
        WeightsError: the weights are missing, damaged, or do not say what network they belong to.
    """
    size, tiles = size or OutputSize(), tiles or TileOptions()
    _check_options(tiles, jpeg_quality, max_pixels)
    if (weights is None) == (network is None):
        raise OptionsError("give weights (a file) or a network, one of the two")
    inputs = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    find_inputs(inputs, recursive=recursive)  # says what is missing before seconds of loading
    if network is None:
        files = [weights] if isinstance(weights, str | Path) else weights
        network = load_networks(files, network_settings, self_ensemble=self_ensemble, compiles=compiles, device=device)
    elif self_ensemble or compiles:
        raise OptionsError("self_ensemble and compiles go with weights: wrap the network by ensembles.py, compiling.py")
    upscaler = PictureUpscaler(network, device=named_device(device, local_rank), options=tiles, sharing=sharing)
    job_list = plan_jobs(
        inputs,
        output_path,
        scale=upscaler.scale,
        mark=size.mark,
        suffix=suffix,
        extension=extension,
        recursive=recursive,
        max_pixels=max_pixels,
    )
    if tiles.precision == "fp16" and upscaler.device.type == "cpu":
        job_list.notes.append("fp16 is much slower than fp32 on a CPU: use fp32 or bf16")
    runner = JobRunner(upscaler, size, overwrite, jpeg_quality, max_pixels, checks_seams)
    scale = None if size.width or size.height else size.scale or upscaler.scale
    report = UpscaleReport(notes=job_list.notes, scale=scale)
    pixels = [_source_pixels(job, max_pixels) for job in job_list.jobs]
    is_speaking = sharing.rank == 0
    display = UpscaleDisplay(console if is_speaking else None, [number * upscaler.scale**2 for number in pixels])
    with display:
        for note in job_list.notes if is_speaking else ():
            display.line("note", note)
        for name, reason in job_list.problems:
            outcome = Outcome(name, Path(name), "failed", reason)
            report.outcomes.append(outcome)
            _say(display, outcome, is_speaking)
        done: dict[int, Outcome] = {}
        before = [stamp_of(job.target) for job in job_list.jobs]
        sharing.wait_for_all()  # none writes before process 0 has looked
        try:
            for number, outcome in _run_all(runner, job_list.jobs, pixels, display):
                done[number] = outcome
                _say(display, outcome, is_speaking)
        except (KeyboardInterrupt, SystemExit):
            done |= _found(job_list.jobs, before, done)
            report.num_left = len(job_list.jobs) - len(done)
            for job in job_list.jobs if is_speaking else ():
                for note in unfinished_notes(job):
                    display.line("note", f"{job.name}: {note}")
            raise
        except HriusrError as error:  # a process of this run is gone
            if not is_speaking:
                raise
            done |= _found(job_list.jobs, before, done)
            for number, job in enumerate(job_list.jobs):
                if number not in done:
                    outcome = Outcome(job.name, job.target, "failed", str(error), notes=unfinished_notes(job))
                    done[number] = outcome
                    _say(display, outcome, is_speaking)
        finally:
            report.outcomes += [done[number] for number in sorted(done)]
            if is_speaking:
                display.close(report.summary())
    return report


def _run_all(
    runner: JobRunner, jobs: list[Job], pixels: list[int], display: UpscaleDisplay
) -> Iterator[tuple[int, Outcome]]:
    """Do all jobs and yield (number, outcome); of several processes each first does its share of the small ones."""
    together = list(range(len(jobs)))
    if runner.sharing.count > 1:
        alone = [number for number in together if pixels[number] < _SHARED_FROM]
        together = [number for number in together if pixels[number] >= _SHARED_FROM]
        mine = {}
        for number in runner.sharing.mine(alone):
            mine[number] = _run(runner.alone(), number, jobs, display)
            yield number, mine[number]
        runner.sharing.wait_for_all()
        for share in runner.sharing.gather(mine):
            yield from ((number, outcome) for number, outcome in share.items() if number not in mine)
    for number in together:
        yield number, _run(runner, number, jobs, display)


def _found(jobs: list[Job], before: list[Stamp], done: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """Return the outcomes of jobs that others than this process have done."""
    found = {n: written_since(job, before[n]) for n, job in enumerate(jobs) if n not in done}
    return {number: outcome for number, outcome in found.items() if outcome is not None}


def _run(runner: JobRunner, number: int, jobs: list[Job], display: UpscaleDisplay) -> Outcome:
    display.begin(number, jobs[number].name)
    return runner.run(jobs[number], display.fraction)


def _say(display: UpscaleDisplay, outcome: Outcome, is_speaking: bool) -> None:
    if is_speaking and outcome.reason:
        display.line(outcome.status, f"{outcome.name}: {outcome.reason}")
    for note in outcome.notes if is_speaking else ():
        display.line("note", f"{outcome.name}: {note}")


def _check_options(tiles: TileOptions, jpeg_quality: int, max_pixels: int | None) -> None:
    problems = [
        f"{name} (={value}) must be at least {least}"
        for name, value, least in (
            ("tile_size", tiles.tile_size, 0),
            ("tile_overlap", tiles.tile_overlap, 0),
            ("batch_size", tiles.batch_size, 1),
            ("max_pixels", max_pixels, 1),
        )
        if value is not None and value < least
    ]
    if tiles.exact and tiles.tile_overlap is not None:
        problems.append(f"tile_overlap (={tiles.tile_overlap}) and exact contradict each other: leave one out")
    try:
        Precision(tiles.precision, torch.device("cpu"))
    except OptionsError as error:
        problems.append(str(error))
    if not 0 <= jpeg_quality <= 100:
        problems.append(f"jpeg_quality (={jpeg_quality}) must lie between 0 and 100")
    if problems:
        raise OptionsError("\n".join(problems))


def _source_pixels(job: Job, max_pixels: int | None) -> int:
    """Read a picture's size from its header, for the progress bar and for sharing; 0 where it has none to read."""
    if job.is_video:
        return 0
    try:
        return count_pixels(job.source, max_pixels=max_pixels)
    except Exception:  # it becomes an outcome when the picture's turn comes
        return 0
