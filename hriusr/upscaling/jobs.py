"""Which picture becomes which file: `hriusr upscale` decides on every name before it computes anything.

No result ever has the name of a picture that is an input of the same run.
"""

import os
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from hriusr.data.image_io import IMAGE_SUFFIXES, list_images
from hriusr.errors import DataError, OptionsError

_KEPT_SUFFIXES = (".png", ".tif", ".tiff", ".webp", ".bmp")  # lossless as we write them; others become .png


@dataclass(frozen=True)
class Job:
    """One picture to upscale.

    Attributes:
        source: the picture.
        target: where its result goes.
        name: what messages call it: the path below the input folder.
        replaces_input: whether the target is itself an input of this run, which must not be overwritten.
    """

    source: Path
    target: Path
    name: str
    replaces_input: bool = False


@dataclass
class JobList:
    """What is to be done, and what was decided on the way.

    Attributes:
        jobs: in natural order of their names; no two have the same target.
        notes: decisions that a person should know of, one line each.
    """

    jobs: list[Job]
    notes: list[str] = field(default_factory=list)


def plan_jobs(
    input_path: str | Path,
    output_path: str | Path | None,
    *,
    scale: int,
    suffix: str | None = None,
    extension: str | None = None,
    recursive: bool = True,
) -> JobList:
    """Name the result of each picture.

    Args:
        input_path: a picture or a folder of pictures.
        output_path: for a picture a file or a folder, for a folder a folder. None: beside the picture, or a folder
            `<input>_x<scale>` beside the input folder.
        scale: the network's enlargement.
        suffix: put behind each name, before its extension. None: `_x<scale>` where results lie beside the pictures,
            else nothing. Without effect where output_path names a file.
        extension: format of the results, "png" or ".png". None: that of the picture if it is lossless, else PNG.
        recursive: also the folders below; their structure is kept.

    Returns:
        Jobs whose targets differ from each other.

    Raises:
        DataError: the input is missing, no picture or holds none, or the output is of the wrong kind.
        OptionsError: unknown extension, or one that contradicts output_path.
    """
    extension = _check_extension(extension)
    source = Path(input_path)
    if source.is_dir():
        return _plan_folder(source, output_path, scale, suffix, extension, recursive)
    if not source.exists():
        raise DataError(f"{source} does not exist: check the path")
    target = _file_target(source, output_path, scale, suffix, extension)
    job = Job(source, target, source.name)
    if _key(target) == _key(source):
        raise OptionsError(f"the result would replace its own source {source}: choose another output or a suffix")
    return JobList([job])


def _check_extension(extension: str | None) -> str | None:
    if extension is None:
        return None
    extension = "." + extension.lower().removeprefix(".")
    if extension not in IMAGE_SUFFIXES:
        raise OptionsError(
            f"extension (={extension!r}) is not a format to write: use one of {', '.join(IMAGE_SUFFIXES)}"
        )
    return extension


def _result_name(source: Path, suffix: str, extension: str | None) -> str:
    own = source.suffix.lower()
    return source.stem + suffix + (extension or (own if own in _KEPT_SUFFIXES else ".png"))


def _file_target(
    source: Path, output_path: str | Path | None, scale: int, suffix: str | None, extension: str | None
) -> Path:
    """Name the result of a single picture."""
    if output_path is None:
        return source.with_name(_result_name(source, f"_x{scale}" if suffix is None else suffix, extension))
    output = Path(output_path)
    if not output.is_dir() and output.suffix.lower() in IMAGE_SUFFIXES:
        if extension not in (None, output.suffix.lower()):
            raise OptionsError(f"output {output} and extension {extension} contradict each other: leave one out")
        return output
    if not output.is_dir() and output.suffix.lower() in Image.registered_extensions():
        raise OptionsError(
            f"output {output}: {output.suffix} is not a format to write: use one of {', '.join(IMAGE_SUFFIXES)}"
        )
    if output.exists() and not output.is_dir():
        raise DataError(f"output {output} is a file without a picture's extension: name a folder or a picture")
    beside = _key(output) == _key(source.parent)
    return output / _result_name(source, f"_x{scale}" if suffix is None and beside else suffix or "", extension)


def _plan_folder(
    folder: Path, output_path: str | Path | None, scale: int, suffix: str | None, extension: str | None, recursive: bool
) -> JobList:
    if output_path is None:
        output_path = folder.resolve().with_name(f"{folder.resolve().name}_x{scale}")
    output = Path(output_path)
    if output.exists() and not output.is_dir():
        raise DataError(f"output {output} is a file, the input {folder} a folder: name a folder")
    sources, notes = list_images(folder, recursive=recursive), []
    is_beside = _key(output) == _key(folder)
    if suffix is None:
        suffix = f"_x{scale}" if is_beside else ""
    if not is_beside and output.resolve().is_relative_to(folder.resolve()):
        sources, notes = _leave_out_below(sources, output)
    jobs = [
        Job(
            source,
            output / source.relative_to(folder).parent / _result_name(source, suffix, extension),
            source.relative_to(folder).as_posix(),
        )
        for source in sources
    ]
    if is_beside:
        jobs, more = _leave_out_results(jobs)
        notes += more
    jobs, more = _rename_collisions(jobs)
    inputs = {_key(source) for source in sources}
    jobs = [replace(job, replaces_input=_key(job.target) in inputs) for job in jobs]
    return JobList(jobs, notes + more)


def _leave_out_below(sources: list[Path], output: Path) -> tuple[list[Path], list[str]]:
    """Leave out what lies in the output folder, where that is inside the input folder."""
    kept = [source for source in sources if not source.resolve().is_relative_to(output.resolve())]
    num_out = len(sources) - len(kept)
    return kept, [f"{num_out} picture(s) in the output folder {output} are not taken as input"] if num_out else []


def _leave_out_results(jobs: list[Job]) -> tuple[list[Job], list[str]]:
    """Leave out pictures that a run before this one wrote beside their sources."""
    for job in jobs:
        if _key(job.target) == _key(job.source):
            raise OptionsError(
                f"the result would replace its own source {job.source}: choose another output or a suffix"
            )
    targets = {_key(job.target): job.name for job in jobs}
    notes = [
        f"{job.name} is left out: it has the name of {targets[_key(job.source)]}'s result"
        for job in jobs
        if _key(job.source) in targets
    ]
    return [job for job in jobs if _key(job.source) not in targets], notes


def _rename_collisions(jobs: list[Job]) -> tuple[list[Job], list[str]]:
    """Tell apart results of one name (a.jpg and a.bmp both give a.png) by the extension of their sources."""
    names_of: dict[str, list[str]] = defaultdict(list)
    for job in jobs:
        names_of[_key(job.target)].append(job.name)
    taken = {key for key, names in names_of.items() if len(names) == 1}
    renamed, notes = [], []
    for job in jobs:
        if len(names_of[_key(job.target)]) > 1:
            mark, number = "_" + job.source.suffix.lower().removeprefix("."), 2
            target = job.target.with_stem(job.target.stem + mark)
            while _key(target) in taken:
                target = job.target.with_stem(f"{job.target.stem}{mark}_{number}")
                number += 1
            taken.add(_key(target))
            others = ", ".join(name for name in names_of[_key(job.target)] if name != job.name)
            notes.append(f"{job.name} becomes {target.name}: {others} would give the same name")
            job = replace(job, target=target)
        renamed.append(job)
    return renamed, notes


def _key(path: Path) -> str:
    """Return a string that is equal for equal places."""
    return os.path.normcase(path.resolve())
