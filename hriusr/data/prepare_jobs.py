"""How jobs on folders of pictures are run: several processes, a progress bar, safe to interrupt and to run again.

Every output is written whole or not at all. An output folder keeps a note of the options it was made with
(.hriusr-prepare.json). Run again, a job keeps what is there if it is whole, has the right size, is not older than its
source and not older than the note, which is rewritten when the options change. Pictures that stood in the folder before
the first run (official LR files, say) are adopted: kept where whole and of the right size, however old. The note lists
them with their lengths, so that one which the job has made anew is none of them any more.
"""

import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import re
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hriusr.atomic_file import write_atomically
from hriusr.data.image_bytes import why_damaged
from hriusr.data.image_io import image_size, list_images, read_file
from hriusr.data.leftovers import remove_leftover_files
from hriusr.errors import DataError, HriusrError

logger = logging.getLogger(__name__)

NOTE = ".hriusr-prepare.json"
Item = TypeVar("Item")


@dataclass(frozen=True)
class JobResult:
    """What a job did.

    Attributes:
        target: folder or file that was filled.
        num_made: outputs made in this run.
        num_kept: outputs that were there already, whole and up to date.
    """

    target: Path
    num_made: int
    num_kept: int

    def __str__(self) -> str:
        return f"{self.target}: {self.num_made} made, {self.num_kept} kept"


@dataclass(frozen=True)
class OutputFolder:
    """A folder that a job fills, and when an output in it need not be made again.

    Attributes:
        path: the folder.
        since_ns: outputs older than this were made with other options.
        adopted: pictures that the folder held before its first job -> bytes; those count whatever their age. True:
            those older than the note, which an earlier version wrote.
    """

    path: Path
    since_ns: int
    adopted: Mapping[str, int] | Literal[True]

    @classmethod
    def open(cls, path: str | Path, options: dict[str, Any], *, overwrite: bool = False) -> "OutputFolder":
        """Make the folder and its note, or read the note and compare.

        Args:
            path: the folder.
            options: everything that decides on an output's content beside its source; JSON types.
            overwrite: nothing that stands in the folder counts.

        Raises:
            DataError: the path is a file, or nothing can be written there.
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            remove_leftover_files(path)
            note, noted = path / NOTE, _read_note(path)
            if overwrite or noted is None or noted.get("options") != options:
                adopted = {} if overwrite else _adopted_so_far(path, noted)
                noted = {"options": options, "adopted": adopted}
                write_atomically(note, json.dumps(noted, indent=1).encode())
            return cls(path, note.stat().st_mtime_ns, noted.get("adopted") or {})
        except OSError as error:
            raise DataError(f"no folder of pictures can be made at {path} ({error.strerror}): give another") from error

    def has(self, name: str, source: Path, size: tuple[int, int]) -> bool:
        """Tell whether an output is there, whole, of the right size and up to date.

        Args:
            name: file name in this folder.
            source: picture that it is made from.
            size: (H, W) that it must have.

        Raises:
            DataError: a picture of another size was there before the first job: nobody asked to replace it.
        """
        path = self.path / name
        try:
            status = path.stat()
            is_adopted = self._has_adopted(name, status)
            is_old = status.st_mtime_ns < max(self.since_ns, source.stat().st_mtime_ns)
            if is_old and not is_adopted:
                return False
            found = image_size(path)
            is_whole = found == size and why_damaged(read_file(path)) is None
        except (OSError, DataError):
            return False
        if is_adopted and found != size:
            raise DataError(
                f"{path} ({found[1]}x{found[0]}) was there before and is not {size[1]}x{size[0]}, as what is made of "
                f"{source}: give another folder, or --overwrite; are source and target swapped?"
            )
        return is_whole

    def _has_adopted(self, name: str, status: os.stat_result) -> bool:
        if self.adopted is True:
            return status.st_mtime_ns < self.since_ns
        return self.adopted.get(name) == status.st_size

    def warn_of_strangers(self, expected: Iterable[str]) -> None:
        """Log pictures that the job has not to do with: a dataset would take them too."""
        with contextlib.suppress(DataError):
            strangers = sorted({path.name for path in list_images(self.path)} - set(expected))
            if strangers:
                logger.warning(
                    "%d pictures in %s do not come from this job, first %s: remove them if they are not wanted",
                    len(strangers),
                    self.path,
                    strangers[0],
                )


def noted_options(folder: Path) -> dict[str, Any]:
    """Return the options that a folder's note names; none where there is no note."""
    return (_read_note(folder) or {}).get("options", {})


def _read_note(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _adopted_so_far(path: Path, noted: dict[str, Any] | None) -> dict[str, int]:
    """Return the pictures of a folder that no job made -> bytes, whatever the options were."""
    if noted is None:
        return _list_sizes(path)
    adopted = noted.get("adopted", {})
    if adopted is not True:
        return adopted
    since_ns = (path / NOTE).stat().st_mtime_ns
    return {name: size for name, size in _list_sizes(path).items() if (path / name).stat().st_mtime_ns < since_ns}


def _list_sizes(folder: Path) -> dict[str, int]:
    """Return the pictures of a folder, name -> bytes; none where there are none."""
    try:
        return {path.name: path.stat().st_size for path in list_images(folder)}
    except DataError:
        return {}


def output_stems(sources: Sequence[Path], filename_tmpl: str = "{}") -> list[str]:
    """Take the names without suffix, and without what a template put around them.

    Args:
        sources: picture files.
        filename_tmpl: how the files are named, such as '{}x2' for LR files.

    Raises:
        DataError: two names are alike, or one does not fit the template.
    """
    before, _, after = filename_tmpl.partition("{}")
    pattern = re.compile(f"{re.escape(before)}(.+){re.escape(after)}")
    seen: dict[str, Path] = {}
    for source in sources:
        match = pattern.fullmatch(source.stem)
        if match is None:
            raise DataError(f"{source} is not named like {filename_tmpl!r}: give the right template with --template")
        if match[1] in seen:
            raise DataError(f"{seen[match[1]]} and {source} would get the same name: rename one of them")
        seen[match[1]] = source
    return list(seen)


def run_job(
    title: str,
    work: Callable[[Item], Any],
    items: Sequence[Item],
    *,
    num_processes: int | None = None,
    progress: bool = True,
) -> Iterator[Any]:
    """Do the same work on many items; yield the results in the items' order.

    An item that fails does not stop the others: all failures are told at the end.

    Args:
        title: stands before the progress bar.
        work: module-level function of one item; its result is pickled.
        items: what it is called with.
        num_processes: how many work at once; None: one a CPU core. 1 works in this process.
        progress: show a bar on stderr.

    Raises:
        DataError: items failed (after all others are done), or a process was killed.
    """
    num_processes = min(num_processes or num_cores(), len(items))
    failures: list[HriusrError] = []
    results = _work_here(work, items) if num_processes <= 1 else _work_in_processes(work, items, num_processes)
    with contextlib.closing(results):
        # the first result is drawn before the bar starts its thread: processes fork without it
        first = list(itertools.islice(results, 1))
        with _progress_bar(progress) as bar:
            task = bar.add_task(title, total=len(items))
            for result in itertools.chain(first, results):
                bar.advance(task)
                if isinstance(result, HriusrError):
                    failures.append(result)
                else:
                    yield result
    if failures:
        others = f" (and {len(failures) - 1} more of {len(items)} pictures)" if len(failures) > 1 else ""
        raise DataError(f"{failures[0]}{others}")


def num_cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _progress_bar(is_shown: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not is_shown)


def _try(work: Callable[[Item], Any], item: Item) -> Any:
    """Return the result, or the error meant for the user."""
    try:
        return work(item)
    except HriusrError as error:
        return error


def _work_here(work: Callable[[Item], Any], items: Sequence[Item]) -> Iterator[Any]:
    for item in items:
        yield _try(work, item)


def _start_process() -> None:
    """Let Ctrl-C reach the parent alone, which then waits for the pictures in work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)


def _work_in_processes(work: Callable[[Item], Any], items: Sequence[Item], num_processes: int) -> Iterator[Any]:
    """Keep a few items a process under way, so that finished results do not pile up in memory."""
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    executor = ProcessPoolExecutor(num_processes, multiprocessing.get_context(method), _start_process)
    under_way: deque[Future] = deque()
    rest = iter(items)

    def submit(count: int) -> None:
        with warnings.catch_warnings():  # Python 3.12 on forking beside torch's threads, which these do not use
            warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
            under_way.extend(executor.submit(_try, work, item) for item in itertools.islice(rest, count))

    try:
        submit(4 * num_processes)
        while under_way:
            yield under_way.popleft().result()
            submit(1)
    except BrokenProcessPool:
        raise DataError(
            "a process was killed (out of memory?): run the command again with fewer processes; what is done is kept"
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
