"""How fast a run is: steps a second, the share of time spent waiting for data, time left."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Speed:
    """Speed since the last reading."""

    iterations_per_second: float
    data_share: float
    seconds_left: float

    def as_dict(self) -> dict[str, float]:
        """Return what is worth recording."""
        return {"it_per_s": round(self.iterations_per_second, 4), "data_share": round(self.data_share, 4)}


class Speedometer:
    """Measures between readings; time spent in paused() does not count."""

    def __init__(self, iteration: int, total_iter: int):
        """Start measuring.

        Args:
            iteration: steps done.
            total_iter: steps of the whole run.
        """
        self._total_iter = total_iter
        self._first_iteration, self._all_seconds = iteration, 0.0
        self._restart(iteration)

    def read(self, iteration: int) -> Speed:
        """Return the speed since the last reading and start anew; time left is by the mean speed of this start."""
        seconds = max(time.perf_counter() - self._start - self._paused, 1e-9)
        self._all_seconds += seconds
        seconds_a_step = self._all_seconds / max(iteration - self._first_iteration, 1)
        speed = Speed(
            (iteration - self._iteration) / seconds,
            self._waited / seconds,
            seconds_a_step * (self._total_iter - iteration),
        )
        self._restart(iteration)
        return speed

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Count this time as spent waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Count this time as none: validation."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def _restart(self, iteration: int) -> None:
        self._iteration, self._start, self._waited, self._paused = iteration, time.perf_counter(), 0.0, 0.0


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds: 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
