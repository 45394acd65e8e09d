"""Where log records of a run go: the terminal (or plain lines on stderr) and a file in the run's folder."""

import contextlib
import logging
import logging.handlers
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

_FORMAT = "%(asctime)s %(levelname)s: %(message)s"
_PACKAGE = "hriusr"


class _LogFile(logging.FileHandler):
    """A log file that a full disk ends with one word on stderr: the run itself decides whether it can go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Give the file up where it cannot be written; all else is a fault of the program."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.setLevel(logging.CRITICAL + 1)
        sys.stderr.write(f"warning: the log {self.baseFilename} ends here: {error.strerror}\n")

    def close(self) -> None:
        """Close, also where what is left cannot be written."""
        with contextlib.suppress(OSError):
            super().close()


class RunLog:
    """Handlers of one run; records from before the file is known are kept and written to it first."""

    def __init__(self, console: Console, is_silent: bool):
        """Take over the package's logger.

        Args:
            console: for the terminal.
            is_silent: only errors are shown and no file is written: processes other than the first.
        """
        self.console = console
        self._is_silent = is_silent
        self._logger = logging.getLogger(_PACKAGE)
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._early = logging.handlers.MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)
        self._file: _LogFile | None = None
        self._handlers: list[logging.Handler] = [self._early, self._terminal_handler()]
        for handler in self._handlers:
            self._logger.addHandler(handler)

    def write_to(self, path: Path) -> None:
        """Write all records to a file, those from before included."""
        if self._is_silent:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _LogFile(path, encoding="utf-8")
        self._file.setFormatter(logging.Formatter(_FORMAT))
        self._early.setTarget(self._file)
        self._early.flush()
        self._logger.removeHandler(self._early)
        self._logger.addHandler(self._file)
        self._handlers.append(self._file)

    def keep_error(self, error: BaseException) -> None:
        """Write what ended the run to the file alone: on the terminal the entry point says it."""
        if self._file is not None:
            fields = {
                "name": _PACKAGE,
                "levelno": logging.ERROR,
                "levelname": "ERROR",
                "msg": f"the run ended: {error!r}",
            }
            record = logging.makeLogRecord({**fields, "exc_info": (type(error), error, error.__traceback__)})
            if record.levelno >= self._file.level:
                self._file.handle(record)

    def close(self) -> None:
        """Give the logger back."""
        self._early.setTarget(None)
        for handler in self._handlers:
            self._logger.removeHandler(handler)
            handler.close()
        self._logger.setLevel(self._before[0])
        self._logger.propagate = self._before[1]

    def _terminal_handler(self) -> logging.Handler:
        if self.console.is_terminal:
            handler: logging.Handler = RichHandler(console=self.console, show_path=False, markup=False)
        else:
            handler = logging.StreamHandler(self.console.file)
            handler.setFormatter(logging.Formatter(_FORMAT))
        handler.setLevel(logging.ERROR if self._is_silent else logging.INFO)
        return handler


@contextlib.contextmanager
def run_logging(rank: int = 0) -> Iterator[RunLog]:
    """Log to the terminal, and to a file once its place is known, for the time of a run.

    Args:
        rank: number of the process; all but 0 show errors only.
    """
    # no terminal for the others: process 0 draws the bars
    log = RunLog(Console(stderr=True, force_terminal=False if rank else None), is_silent=rank != 0)
    try:
        yield log
    except BaseException as error:
        log.keep_error(error)
        raise
    finally:
        log.close()
