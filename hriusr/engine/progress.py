"""Progress on a terminal: one bar with rich. Elsewhere nothing: log lines tell it."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrainingProgress:
    """The bar of a training run: steps, loss, learning rate, speed, time left."""

    def __init__(self, console: Console, total_iter: int, start_iter: int):
        """Show the bar, where there is a terminal.

        Args:
            console: where log lines go too, so that they appear above the bar.
            total_iter: steps of the whole run.
            start_iter: steps done before.
        """
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total_iter, completed=start_iter, note="")

    def __enter__(self) -> "TrainingProgress":
        """Start drawing."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        self._bar.stop()

    def step(self, iteration: int) -> None:
        """Move to an iteration."""
        self._bar.update(self._task, completed=iteration)

    def note(self, text: str) -> None:
        """Write losses, learning rate and speed beside the bar."""
        self._bar.update(self._task, note=text)

    @contextlib.contextmanager
    def pictures(self, name: str, count: int) -> Iterator[Callable[[int], None]]:
        """Show a second bar while a dataset is validated; yields a function (pictures done) -> None."""
        task = self._bar.add_task(f"validating {name}", total=count, note="")
        try:
            yield lambda done: self._bar.update(task, completed=done)
        finally:
            self._bar.remove_task(task)


@contextlib.contextmanager
def picture_progress(console: Console, name: str, count: int, *, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar while a dataset is tested.

    Args:
        console: where log lines go too.
        name: of the dataset.
        count: pictures.
        is_shown: False: no bar, on a terminal either (val.pbar).

    Yields:
        A function (pictures done) -> None.
    """
    columns = (TextColumn("testing {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (is_shown and console.is_terminal)) as bar:
        task = bar.add_task(name, total=count)
        yield lambda done: bar.update(task, completed=done)
