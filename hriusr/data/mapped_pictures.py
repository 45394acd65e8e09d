"""Pictures in a file that is mapped into memory: the system keeps in RAM what fits and reads the rest when needed.

The file has no name: it is gone however the run ends. Processes that are forked share it, and what of it is in RAM.
"""

import mmap
import tempfile
import threading
import weakref
from collections.abc import Sequence

import numpy as np


class MappedPictures:
    """Item number -> arrays, in a file of the folder for temporary files (TMPDIR).

    As a dict, as far as PictureCache needs one; items cannot be replaced. Several threads may add items.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="hriusr_cache_")
        weakref.finalize(self, self._file.close)
        self._places: dict[int, list[tuple[int, tuple[int, ...], np.dtype]]] = {}
        self._end = 0
        self._map: mmap.mmap | None = None
        self._lock = threading.Lock()

    def __contains__(self, item: int) -> bool:
        return item in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __setitem__(self, item: int, pictures: Sequence[np.ndarray]) -> None:
        """Append an item's pictures.

        Raises:
            OSError: the disk is full.
        """
        with self._lock:
            places = []
            self._file.seek(self._end)
            for picture in pictures:
                self._file.write(np.ascontiguousarray(picture).data)
                places.append((self._end, picture.shape, picture.dtype))
                self._end += picture.nbytes
            self._file.flush()
            self._places[item] = places

    def __getitem__(self, item: int) -> tuple[np.ndarray, ...]:
        """Return an item's pictures; nobody may change them."""
        places = self._places[item]
        mapped = self._mapped(max(offset + _size(shape, dtype) for offset, shape, dtype in places))
        return tuple(np.ndarray(shape, dtype, mapped, offset) for offset, shape, dtype in places)

    def num_bytes(self) -> int:
        """Return the size of the file."""
        return self._end

    def _mapped(self, num_bytes: int) -> mmap.mmap:
        """Return the memory of the whole file (maps and descriptors are few), at least its first num_bytes."""
        with self._lock:
            if self._map is None or len(self._map) < num_bytes:
                # shared with the file: a private map would count as memory that the system must be able to give
                self._map = mmap.mmap(self._file.fileno(), self._end, access=mmap.ACCESS_WRITE)
            return self._map


def _size(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
