"""What the doctor says: findings with a level, a place and a remedy, and what was measured."""

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, odd or worth knowing.

    Attributes:
        level: error: the run will fail or be worthless; warning: it will run, and probably not as wanted; note.
        place: option key, file or folder.
        message: what was seen, in plain words.
        remedy: what to do about it; empty for some notes.
        examples: files or keys it was seen at, all of them.
    """

    level: Level
    place: str
    message: str
    remedy: str = ""
    examples: tuple[str, ...] = ()


@dataclass
class Report:
    """All findings, and what was measured.

    Attributes:
        findings: in the order they were made.
        measured: section -> label -> value: numbers, text, or lists of them.
    """

    findings: list[Finding] = field(default_factory=list)
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(
        self, level: Level, place: str, message: str, remedy: str = "", examples: Iterator[str] | tuple = ()
    ) -> None:
        """Note a finding."""
        self.findings.append(Finding(level, place, message, remedy, tuple(examples)))

    def measure(self, section: str, **values: Any) -> None:
        """Note measurements; numbers that are not finite become text, which JSON can hold."""
        self.measured.setdefault(section, {}).update(
            {
                label: str(value) if isinstance(value, float) and not math.isfinite(value) else value
                for label, value in values.items()
            }
        )

    def count(self, level: Level) -> int:
        """Return how many findings have a level."""
        return sum(finding.level == level for finding in self.findings)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing stands against starting the run."""
        return self.count("error") == 0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain types, for JSON."""
        return {
            "healthy": self.is_healthy,
            "counts": {level: self.count(level) for level in LEVELS},
            "findings": [asdict(finding) for finding in self.findings],
            "measured": self.measured,
        }


def remedy_apart(message: str) -> tuple[str, str]:
    """Cut an error's message at its first `; ` or `: ` outside of brackets: what is wrong, and what to do."""
    for separator in ("; ", ": "):
        depth = 0
        for place, letter in enumerate(message):
            depth += (letter in "([{") - (letter in ")]}")
            if depth == 0 and message.startswith(separator, place):
                return message[:place], message[place + len(separator) :]
    return message, ""


@contextlib.contextmanager
def collected_warnings(report: Report, place: str) -> Iterator[None]:
    """Turn what hriusr's loggers warn of meanwhile into findings; nothing of it goes to the terminal."""
    handler = _Collector(report, place)
    ours = logging.getLogger("hriusr")
    propagates, level = ours.propagate, ours.level
    ours.addHandler(handler)
    ours.propagate = False
    if ours.getEffectiveLevel() > logging.WARNING:
        ours.setLevel(logging.WARNING)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.propagate = propagates
        ours.setLevel(level)


class _Collector(logging.Handler):
    def __init__(self, report: Report, place: str):
        super().__init__(logging.WARNING)
        self._report, self._place = report, place

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        self._report.add(level, self._place, record.getMessage())
