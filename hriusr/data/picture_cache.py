"""Decoded pictures kept in memory: what `cache: memory` of a dataset means.

Filled before the loading processes are forked, so that they share it page by page instead of holding a copy each.
"""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hriusr.errors import DataError

logger = logging.getLogger(__name__)

_PROBED = 16  # pictures loaded before the memory for all of them is estimated


class PictureCache:
    """Holds the decoded pictures of each item of a dataset; what is not there yet is loaded when asked for.

    Args:
        load: item number -> its pictures, uint8 or uint16. May run in several threads at once.
        num_items: items of the dataset.
        name: what log and error messages call the dataset.
    """

    def __init__(self, load: Callable[[int], Sequence[np.ndarray]], num_items: int, name: str):
        self._load = load
        self._num_items = num_items
        self._name = name
        self._held: dict[int, Sequence[np.ndarray]] = {}

    def __getitem__(self, item: int) -> Sequence[np.ndarray]:
        if item not in self._held:
            self._held[item] = self._load(item)
        return self._held[item]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_held": {}}  # a spawned process fills its own instead of unpickling gigabytes

    def fill(self, num_threads: int) -> None:
        """Load everything that is not there yet.

        Args:
            num_threads: how many pictures are decoded at once.

        Raises:
            DataError: a picture cannot be read, or all of them do not fit into the free memory.
        """
        missing = [item for item in range(self._num_items) if item not in self._held]
        if not missing:
            return
        with ThreadPoolExecutor(max(1, num_threads)) as pool:
            list(pool.map(self.__getitem__, missing[:_PROBED]))
            self._refuse_to_run_out_of_memory(len(missing) - _PROBED)
            list(pool.map(self.__getitem__, missing[_PROBED:]))
        logger.info("%s: %d pictures in memory, %.2f GB", self._name, self._num_items, self.num_bytes() / 1e9)

    def num_bytes(self) -> int:
        """Return how much the held pictures take."""
        return sum(picture.nbytes for pictures in self._held.values() for picture in pictures)

    def _refuse_to_run_out_of_memory(self, num_missing: int) -> None:
        needed = self.num_bytes() / len(self._held) * num_missing
        available = available_memory()
        if available is not None and needed > 0.9 * available:
            raise DataError(
                f"cache: memory of dataset {self._name} needs about {needed / 1e9:.1f} GB more and "
                f"{available / 1e9:.1f} GB are free: set cache: none, "
                "better with sub-images (`hriusr prepare sub-images`)"
            )


def available_memory() -> int | None:
    """Return how many bytes the system can still give without swapping; None where it does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None
