"""How jobs on folders of pictures are run: several processes, a progress bar, failures told at the end.

They may be interrupted and run again: what is kept then is said by output_folder.py.
"""

import contextlib
import itertools
import multiprocessing
import os
import re
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hriusr.errors import DataError, HriusrError

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
