"""How fast a run is, and where its time goes: data, compute, validation, save."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PHASES = ("data", "compute", "validation", "save")
"""Waiting for batches; steps; validating; what saving holds the training up (files are written beside it)."""


@dataclass(frozen=True)
class Speed:
    """Speed since the last reading.

    Attributes:
        iterations_per_second: of data and compute; validation and saving do not count.
        seconds_left: by the mean speed since the start.
        seconds: phase -> seconds spent in it.
    """

    iterations_per_second: float
    seconds_left: float
    seconds: dict[str, float]

    @property
    def data_share(self) -> float:
        """Part of data and compute that was spent waiting for data, 0..1."""
        return self.seconds["data"] / max(self.seconds["data"] + self.seconds["compute"], 1e-9)

    def as_dict(self) -> dict[str, float]:
        """Return what is worth recording."""
        seconds = {f"{phase}_s": round(value, 4) for phase, value in self.seconds.items()}
        return {
            "it_per_s": round(self.iterations_per_second, 4),
            "data_share": round(self.data_share, 4),
            **seconds,
        }


class Speedometer:
    """Measures between readings."""

    def __init__(self, iteration: int, total_iter: int, spent: Mapping[str, float] | None = None):
        """Start measuring.

        Args:
            iteration: steps done.
            total_iter: steps of the whole run.
            spent: phase -> seconds spent before this start.
        """
        self._total_iter = total_iter
        self._first_iteration, self._stepping_seconds = iteration, 0.0
        self._spent = {phase: (spent or {}).get(phase, 0.0) for phase in PHASES}
        self._restart(iteration)

    def read(self, iteration: int) -> Speed:
        """Return the speed since the last reading and start anew; time left is by the mean speed of this start."""
        seconds = self._since_reading()
        stepping = max(seconds["data"] + seconds["compute"], 1e-9)
        self._stepping_seconds += stepping
        seconds_a_step = self._stepping_seconds / max(iteration - self._first_iteration, 1)
        speed = Speed(
            (iteration - self._iteration) / stepping, seconds_a_step * (self._total_iter - iteration), seconds
        )
        self._spent = self.split()
        self._restart(iteration)
        return speed

    def split(self) -> dict[str, float]:
        """Return phase -> seconds, over all starts and until now."""
        now = self._since_reading()
        return {phase: self._spent[phase] + now[phase] for phase in PHASES}

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count this time as one of PHASES; what is in none of these blocks is compute."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._measured[phase] += time.perf_counter() - start

    def _since_reading(self) -> dict[str, float]:
        elapsed = time.perf_counter() - self._start
        return {**self._measured, "compute": max(elapsed - sum(self._measured.values()), 0.0)}

    def _restart(self, iteration: int) -> None:
        self._iteration, self._start = iteration, time.perf_counter()
        self._measured = dict.fromkeys(PHASES, 0.0)


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds: 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
