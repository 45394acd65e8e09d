"""SIGINT and SIGTERM as a wish to stop: the loop finishes its step, saves, and leaves with the shell's exit status."""

import os
import signal
import sys
from types import FrameType


class StopSignal:
    """Context in which SIGINT (Ctrl-C) and SIGTERM (SLURM, docker stop) are noted instead of ending the process.

    A second signal ends it at once. Processes forked meanwhile inherit the handlers; for them the old ones count.

    Attributes:
        number: of the signal that came, or None.
    """

    def __init__(self, is_quiet: bool = False) -> None:
        """Note nothing yet.

        Args:
            is_quiet: another process tells the user.
        """
        self.number: int | None = None
        self._is_quiet = is_quiet
        self._owner = os.getpid()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        """Take the signals over; only the main thread can, and a signal that is ignored (nohup, &) stays so."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                self._previous[number] = signal.signal(number, self._note)
            except ValueError:
                break
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None or os.getpid() != self._owner:
            self.__exit__()
            signal.raise_signal(number)
            return
        self.number = number
        # Not by a logger: the signal may have come while one was writing, and streams cannot be reentered
        if self._is_quiet:
            return
        notice = f"{signal.Signals(number).name}: stopping after this step; once more stops at once, without saving\n"
        os.write(sys.__stderr__.fileno(), notice.encode())
