"""Decoded pictures kept, in memory or in a mapped file: what `cache: memory` and `cache: disk` of a dataset mean.

Filled before the loading processes are forked, so that they share it page by page instead of holding a copy each.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from hriusr.data.host_memory import available_memory
from hriusr.data.mapped_pictures import MappedPictures
from hriusr.errors import DataError

logger = logging.getLogger(__name__)

_PROBED = 16  # pictures loaded before the room for all of them is estimated


def build_cache(
    opt: Mapping[str, Any], load: Callable[[int], Sequence[np.ndarray]], num_items: int, name: str
) -> "PictureCache | None":
    """Build the cache that a dataset's options ask for; arguments as PictureCache has them."""
    kind = opt.get("cache") or "none"
    return None if kind == "none" else PictureCache(load, num_items, name, is_on_disk=kind == "disk")


class PictureCache:
    """Holds the decoded pictures of each item of a dataset; what is not there yet is loaded when asked for.

    A process that was forked keeps in memory what it loads itself, but adds nothing to a file, which it shares.

    Args:
        load: item number -> its pictures, uint8 or uint16. May run in several threads at once.
        num_items: items of the dataset.
        name: what log and error messages call the dataset.
        is_on_disk: in a mapped file (MappedPictures) instead of memory.
    """

    def __init__(
        self, load: Callable[[int], Sequence[np.ndarray]], num_items: int, name: str, *, is_on_disk: bool = False
    ):
        self._load = load
        self._num_items = num_items
        self._name = name
        self._is_on_disk = is_on_disk
        self._held: dict[int, Sequence[np.ndarray]] | MappedPictures = MappedPictures() if is_on_disk else {}
        self._owner = os.getpid()

    def __getitem__(self, item: int) -> Sequence[np.ndarray]:
        if self._is_on_disk and os.getpid() != self._owner and item not in self._held:
            return self._load(item)
        self._hold(item)
        return self._held[item]

    def __getstate__(self) -> dict:
        # a spawned process fills its own instead of unpickling gigabytes
        return {key: value for key, value in self.__dict__.items() if key != "_held"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= {**state, "_held": MappedPictures() if state["_is_on_disk"] else {}, "_owner": os.getpid()}

    def fill(self, num_threads: int) -> None:
        """Load everything that is not there yet.

        Args:
            num_threads: how many pictures are decoded at once.

        Raises:
            DataError: a picture cannot be read, or all of them do not fit into the free memory or disk.
        """
        missing = [item for item in range(self._num_items) if item not in self._held]
        if not missing:
            return
        with ThreadPoolExecutor(max(1, num_threads)) as pool:
            list(pool.map(self._hold, missing[:_PROBED]))
            self._refuse_to_run_out(len(missing) - _PROBED)
            list(pool.map(self._hold, missing[_PROBED:]))
        where = f"a mapped file in {tempfile.gettempdir()}" if self._is_on_disk else "memory"
        logger.info("%s: %d pictures in %s, %.2f GB", self._name, self._num_items, where, self.num_bytes() / 1e9)

    def num_bytes(self) -> int:
        """Return how much the held pictures take."""
        if isinstance(self._held, MappedPictures):
            return self._held.num_bytes()
        return sum(picture.nbytes for pictures in self._held.values() for picture in pictures)

    def _hold(self, item: int) -> None:
        if item in self._held:
            return
        pictures = self._load(item)
        try:
            self._held[item] = pictures
        except OSError as error:
            raise DataError(
                f"cache: disk of dataset {self._name}: cannot write in {tempfile.gettempdir()} ({error.strerror}): "
                "make room there, name another folder (TMPDIR), or set cache: none"
            ) from error

    def _refuse_to_run_out(self, num_missing: int) -> None:
        needed = self.num_bytes() / len(self._held) * num_missing
        available = shutil.disk_usage(tempfile.gettempdir()).free if self._is_on_disk else available_memory()
        if needed <= 0.9 * available:
            return
        told = f"of dataset {self._name} needs about {needed / 1e9:.1f} GB more and {available / 1e9:.1f} GB are free"
        if self._is_on_disk:
            raise DataError(f"cache: disk {told} in {tempfile.gettempdir()}: name another folder (TMPDIR)")
        raise DataError(
            f"cache: memory {told}: set cache: disk, or cache: none, better with sub-images "
            "(`hriusr prepare sub-images`)"
        )
