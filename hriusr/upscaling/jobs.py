"""Which file becomes which: `hriusr upscale` decides on every name before it computes anything.

No result ever has the name of a file that is an input of the same run. A file that has the name of a result beside its
source is no input: an earlier run wrote it.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from hriusr.errors import DataError, HriusrError, OptionsError
from hriusr.pictures.formats import TARGET_FORMATS
from hriusr.pictures.source import MAX_PIXELS, open_source
from hriusr.pictures.video_formats import VIDEO_TARGETS
from hriusr.upscaling.inputs import VIDEO_SUFFIXES, InputGroup, find_inputs, real_path

_KEPT_SUFFIXES = (".png", ".tif", ".tiff", ".webp", ".bmp")  # lossless as we write them; others become .png


@dataclass(frozen=True)
class Job:
    """One picture or video to upscale.

    Attributes:
        source: the file.
        target: where its result goes.
        name: what messages call it: its path below the folder or pattern that was given.
        replaces_input: whether the target is itself an input of this run, which must not be overwritten.
        is_video: whether source and target are videos.
    """

    source: Path
    target: Path
    name: str
    replaces_input: bool = False
    is_video: bool = False


@dataclass
class JobList:
    """What is to be done, and what was decided on the way.

    Attributes:
        jobs: in the order of the inputs, each input's in natural order of their names; no two have the same target.
        notes: decisions that a person should know of, one line each.
        problems: (name, reason) of inputs that could not be found or read: failures, beside which the jobs can be done.
    """

    jobs: list[Job]
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Naming:
    """How results are named."""

    mark: str
    suffix: str | None
    extension: str | None
    max_pixels: int | None

    def target(self, source: Path, folder: Path) -> Path:
        """Name the result of a file in a folder."""
        suffix = self.suffix
        if suffix is None:
            suffix = f"_{self.mark}" if _key(folder) == _key(source.parent) else ""
        return folder / (source.stem + suffix + self._extension_of(source))

    def _extension_of(self, source: Path) -> str:
        own = source.suffix.lower()
        if own in VIDEO_SUFFIXES:
            kept = own if own in VIDEO_TARGETS else ".mkv"
            return self.extension if self.extension in VIDEO_TARGETS else kept
        if self.extension in TARGET_FORMATS:
            return self.extension
        return own if own in _KEPT_SUFFIXES or (own == ".gif" and _is_animated(source, self.max_pixels)) else ".png"


def plan_jobs(
    inputs: str | Path | Sequence[str | Path],
    output_path: str | Path | None,
    *,
    scale: float,
    mark: str | None = None,
    suffix: str | None = None,
    extension: str | None = None,
    recursive: bool = True,
    max_pixels: int | None = MAX_PIXELS,
) -> JobList:
    """Name the result of each picture and video.

    Args:
        inputs: a file, a folder or a pattern, or several of them; see find_inputs.
        output_path: for a single file a file or a folder, else a folder: a folder's structure is kept in it, below the
            folder's name where there are several inputs. None: beside the file, or for a folder a folder
            `<input>_<mark>` beside it.
        scale: the enlargement.
        mark: what default names say of the size, such as "w4096". None: `x<scale>`.
        suffix: put behind each name, before its extension. None: `_<mark>` where results lie beside their sources,
            else nothing. Without effect where output_path names a file.
        extension: format of the results, "png" or ".png"; a picture's is for pictures, a video's for videos. None: that
            of the source if it is lossless or an animation, else PNG; that of a video, or MKV.
        recursive: also the folders below.
        max_pixels: larger pictures are not opened; None: no limit.

    Returns:
        Jobs whose targets differ from each other.

    Raises:
        DataError: nothing was found, or the output is of the wrong kind.
        OptionsError: unknown extension, or one that contradicts output_path; a result would replace its own source.
    """
    naming = _Naming(f"x{scale:g}" if mark is None else mark, suffix, _check_extension(extension), max_pixels)
    inputs = [inputs] if isinstance(inputs, str | Path) else inputs
    found = find_inputs(inputs, recursive=recursive)
    is_alone = len({str(item) for item in inputs}) == 1  # as given: names must not depend on what could be found
    output = None if output_path is None else Path(output_path)
    if is_alone and found.groups[0].kind == "file":
        jobs, notes = [_single_job(found.groups[0].sources[0], output, naming)], []
        if output is not None and output.suffix and jobs[0].target.parent == output and not output.exists():
            notes.append(f"{output} is taken for a folder: {output.suffix} is no format to write")
    else:
        jobs, notes = _jobs_of_groups(found.groups, output, naming, is_alone)
    for job in jobs:
        if _key(job.target) == _key(job.source):
            raise OptionsError(
                f"the result would replace its own source {job.source}: choose another output or a suffix"
            )
    jobs, more = _leave_out_results(jobs, replace(naming, suffix=None))
    notes += more
    jobs, more = _rename_collisions(jobs)
    notes += more
    jobs, more = _leave_out_results(jobs)  # renamed ones
    notes += more
    inputs_of_run = {_key(job.source) for job in jobs}
    jobs = [
        replace(
            job,
            replaces_input=_key(job.target) in inputs_of_run,
            is_video=job.source.suffix.lower() in VIDEO_SUFFIXES,
        )
        for job in jobs
    ]
    return JobList(jobs, notes, found.problems)


def _check_extension(extension: str | None) -> str | None:
    if extension is None:
        return None
    extension = "." + extension.lower().removeprefix(".")
    if extension not in TARGET_FORMATS and extension not in VIDEO_TARGETS:
        raise OptionsError(
            f"extension (={extension!r}) is not a format to write: "
            f"use one of {', '.join((*TARGET_FORMATS, *VIDEO_TARGETS))}"
        )
    return extension


def _is_animated(source: Path, max_pixels: int | None) -> bool:
    try:
        with open_source(source, max_pixels=max_pixels) as picture:
            return picture.num_frames > 1
    except (HriusrError, MemoryError):  # said when it is read
        return False


def _single_job(source: Path, output: Path | None, naming: _Naming) -> Job:
    """Name the result of a single file, for which output may be a file."""
    if output is None:
        return Job(source, naming.target(source, source.parent), source.name)
    targets = VIDEO_TARGETS if source.suffix.lower() in VIDEO_SUFFIXES else TARGET_FORMATS
    is_folder = os.path.isdir(output)
    if not is_folder and output.suffix.lower() in targets:
        if naming.extension not in (None, output.suffix.lower()):
            raise OptionsError(f"output {output} and extension {naming.extension} contradict each other: leave one out")
        return Job(source, output, source.name)
    if not is_folder and _has_file_suffix(output):
        raise OptionsError(
            f"output {output}: {output.suffix} is not a format to write: use one of {', '.join(targets)}"
        )
    if os.path.exists(output) and not is_folder:
        raise DataError(f"output {output} is a file without a picture's extension: name a folder or a picture")
    return Job(source, naming.target(source, output), source.name)


def _jobs_of_groups(
    groups: list[InputGroup], output: Path | None, naming: _Naming, is_alone: bool
) -> tuple[list[Job], list[str]]:
    """Name the results of folders, patterns and several files."""
    is_taken = output is not None and (os.path.exists(output) or _has_file_suffix(output))
    if is_taken and not os.path.isdir(output):
        what = f"the input {groups[0].root} a folder" if groups[0].kind == "folder" else "there are several inputs"
        raise DataError(f"output {output} is a file, {what}: name a folder")
    jobs, notes = [], []
    for group in groups:
        sources, results = group.sources, _results_folder(group, output, naming, is_alone)
        if output is not None and group.kind != "file":
            sources, more = _leave_out_below(group, output)
            notes += more
        for source in sources:
            below = source.relative_to(group.root) if results is not None else Path(source.name)
            folder = source.parent if results is None else results / below.parent
            name = source if group.kind == "file" else source.relative_to(group.root)
            jobs.append(Job(source, naming.target(source, folder), name.as_posix()))
    return jobs, notes


def _results_folder(group: InputGroup, output: Path | None, naming: _Naming, is_alone: bool) -> Path | None:
    """Choose where a group's root goes; None: each result beside its source."""
    if group.kind != "folder":
        return output
    root = real_path(group.root)
    if output is None:
        return root.with_name(f"{root.name}_{naming.mark}")
    return output if is_alone else output / root.name


def _has_file_suffix(path: Path) -> bool:
    return path.suffix.lower() in (*Image.registered_extensions(), *VIDEO_SUFFIXES)


def _leave_out_below(group: InputGroup, output: Path) -> tuple[list[Path], list[str]]:
    """Leave out what lies in the output folder, where that is inside the input folder."""
    results, root = real_path(output), real_path(group.root)
    if results == root or not results.is_relative_to(root):
        return group.sources, []
    kept = [source for source in group.sources if not real_path(source).is_relative_to(results)]
    num_out = len(group.sources) - len(kept)
    return kept, [f"{num_out} picture(s) in the output folder {output} are not taken as input"] if num_out else []


def _leave_out_results(jobs: list[Job], usual: _Naming | None = None) -> tuple[list[Job], list[str]]:
    """Leave out files that a run before this one wrote beside their sources, also such of the usual names."""
    targets = {} if usual is None else {_key(usual.target(job.source, job.source.parent)): job.name for job in jobs}
    targets |= {_key(job.target): job.name for job in jobs if _key(job.target.parent) == _key(job.source.parent)}
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
    return os.path.normcase(real_path(path))
