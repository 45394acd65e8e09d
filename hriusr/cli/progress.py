"""A bar on stderr over the steps of a piece of work; nothing where nobody looks."""


class StepProgress:
    """A bar that appears on entering and goes on leaving."""

    def __enter__(self) -> "StepProgress":
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._bar.start()
        self._task = self._bar.add_task("loading", total=None)
        return self

    def __exit__(self, *_unused: object) -> None:
        self._bar.stop()

    def show(self, name: str, done: int, total: int) -> None:
        """Say what is on, and how many of its steps are done."""
        self._bar.update(self._task, description=name, completed=done, total=total)
