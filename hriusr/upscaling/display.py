"""What `hriusr upscale` shows while it runs: a bar with pixels a second, a line for each picture that needs one."""

import logging

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

logger = logging.getLogger(__name__)


class _Speed(ProgressColumn):
    """Pixels of the result a second."""

    def render(self, task: Task) -> Text:
        """Return for instance `1.24 MP/s`."""
        return Text(f"{task.speed / 1e6:.2f} MP/s" if task.speed else "- MP/s", style="progress.data.speed")


class UpscaleDisplay:
    """A progress bar over the pixels of all results, and lines above it; without a console, the logger."""

    def __init__(self, console: Console | None, num_pixels: list[int]):
        self._console = console
        self._num_pixels = num_pixels
        self._number = 0
        self._progress: Progress | None = None
        if console is not None:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                _Speed(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
                disable=not console.is_terminal,
                speed_estimate_period=60,
            )
            self._task = self._progress.add_task("", total=max(1, sum(num_pixels)))

    def __enter__(self) -> "UpscaleDisplay":
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def begin(self, number: int, name: str) -> None:
        """Say which picture is on; those before it count as done, however they went."""
        self._number = number
        if self._progress is not None:
            description = f"{number + 1}/{len(self._num_pixels)} {name}"
            self._progress.update(self._task, description=description, completed=sum(self._num_pixels[:number]))

    def fraction(self, done: float) -> None:
        """Move the bar within the picture that is on."""
        if self._progress is not None:
            completed = sum(self._num_pixels[: self._number]) + done * self._num_pixels[self._number]
            self._progress.update(self._task, completed=completed)

    def line(self, kind: str, text: str) -> None:
        """Write a line above the bar; kind is "note", "skipped" or "failed"."""
        if self._console is not None:
            style = "red" if kind == "failed" else "yellow"
            self._console.print(Text(f"{kind}: ", style=style) + Text(text), soft_wrap=True, highlight=False)
        else:
            logger.log(logging.ERROR if kind == "failed" else logging.WARNING, "%s: %s", kind, text)

    def close(self, summary: str) -> None:
        """Take the bar away and write the summary."""
        if self._progress is not None:
            self._progress.stop()
        if self._console is not None:
            self._console.print(Text(summary), soft_wrap=True, highlight=False)
        else:
            logger.info("%s", summary)
