"""The pixels of a result under way: a raw file beside the target, where a run that was cut off goes on.

    .NAME.hriusr/pixels.raw      (frames, H, W, C), as the encoder reads it; memory holds no more than a block
                 state.json      what run this is, and which rows of tiles are finished
                 fade_F_R.npy    the open fade below them
                 tried.json      the plan of a run that has no row finished yet

State is written when a row of tiles is on disk, so that after a kill at any moment the pixels it names are there.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hriusr.atomic_file import hidden_beside, write_atomically
from hriusr.errors import HriusrError
from hriusr.folder_lock import FolderLock

_PIXELS, _STATE, _TRIED = "pixels.raw", "state.json", "tried.json"


@dataclass(frozen=True)
class Position:
    """Where to go on.

    Attributes:
        frame: number of the frame; that of frames when all is done.
        row: number of its next row of tiles.
        above: the open fade above it, or None.
    """

    frame: int = 0
    row: int = 0
    above: Tensor | None = None


def scratch_folder(target: Path) -> Path:
    """Return where the unfinished pixels of a result are kept."""
    return hidden_beside(target, ".hriusr")


def holds_finished_rows(folder: Path) -> bool:
    """Whether a scratch folder has something to go on from."""
    try:
        return (folder / _STATE).exists()
    except OSError:  # a name that is too long, a folder that may not be read
        return False


class Canvas:
    """Pixels of one result on disk, to be used in a `with`: an error leaves them for the next run, finish removes them.

    Args:
        target: the result's file; the scratch folder lies beside it.
        shape: (frames, H, W, C).
        dtype: of the pixels.
        identity: plain values; a scratch folder with others is of another run and begun anew.

    Attributes:
        killed_plan: what a run like this had decided on that was killed before its first row was finished; else empty.

    Raises:
        HriusrError: the folder cannot be made, the disk is too full, or another process is at it.
    """

    def __init__(
        self, target: Path, shape: tuple[int, int, int, int], dtype: np.dtype | type, identity: Mapping[str, Any]
    ):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.folder = scratch_folder(target)
        self.pixels_path = self.folder / _PIXELS
        self._state = {"identity": json.loads(json.dumps(identity)), "frame": 0, "row": 0, "plan": {}}
        self.killed_plan: dict[str, Any] = {}
        self._lock = FolderLock("being written")
        self._file: int | None = None

    def __enter__(self) -> "Canvas":
        """Open the scratch file, that of an earlier run where it is of the same kind."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.take(self.folder)
            is_continued = self._read_state()
            if not is_continued:
                self.killed_plan = self._read(_TRIED).get("plan", {})
                self._remove_content()
                self._check_space()
            self._file = os.open(self.pixels_path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            os.truncate(self._file, self.num_bytes)
        except BaseException as error:
            self.__exit__()
            if isinstance(error, OSError):
                raise HriusrError(f"cannot write {self.folder} ({error.strerror}): choose another output") from None
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; nothing is removed where rows are finished, all where none is."""
        is_mine = self._file is not None or self._lock.is_held
        self.close()
        if is_mine and not (self.folder / _STATE).exists():
            self._remove()

    def close(self) -> None:
        """Close the scratch file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._lock.release()

    def finish(self) -> None:
        """Remove the scratch folder: the result is where it belongs."""
        self.close()
        self._remove()

    @property
    def num_bytes(self) -> int:
        """Bytes of all pixels."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def plan(self) -> dict[str, Any]:
        """What this run, or the one that is continued, has decided on; empty at first."""
        return self._state["plan"]

    def try_plan(self, plan: Mapping[str, Any]) -> None:
        """Decide on a plan, and leave word of it for the next run, should this one be killed in its first row."""
        self._state["plan"] = dict(plan)
        tried = {"identity": self._state["identity"], "plan": self._state["plan"]}
        write_atomically(self.folder / _TRIED, json.dumps(tried).encode())

    def position(self) -> Position:
        """Return where to go on."""
        frame, row = self._state["frame"], self._state["row"]
        path = self._fade_path(frame, row)
        above = torch.from_numpy(np.load(path)) if path.exists() else None
        return Position(frame, row, above)

    def write(self, frame: int, top: int, left: int, pixels_HWC: np.ndarray) -> None:
        """Write a block of pixels.

        Raises:
            HriusrError: the disk is full.
        """
        _, height, width, num_channels = self.shape
        pixel_bytes = num_channels * self.dtype.itemsize
        pixels_HWC = np.ascontiguousarray(pixels_HWC, self.dtype)
        offset = ((frame * height + top) * width + left) * pixel_bytes
        try:
            if pixels_HWC.shape[1] == width:
                _write_all(self._file, memoryview(pixels_HWC).cast("B"), offset)
            else:
                for row in pixels_HWC:
                    _write_all(self._file, memoryview(row).cast("B"), offset)
                    offset += width * pixel_bytes
        except OSError as error:
            raise HriusrError(
                f"cannot write {self.pixels_path} ({self.num_bytes / 1e6:.0f} MB): {error.strerror}; make room, then "
                "the same command goes on from here"
            ) from None

    def read(self, frame: int, start: int, stop: int) -> np.ndarray:
        """Return rows (stop - start, W, C) of a frame."""
        _, height, width, num_channels = self.shape
        row_bytes = width * num_channels * self.dtype.itemsize
        content = os.pread(self._file, (stop - start) * row_bytes, (frame * height + start) * row_bytes)
        return np.frombuffer(content, self.dtype).reshape(stop - start, width, num_channels)

    def checkpoint(self, frame: int, row: int, above: Tensor | None) -> None:
        """Remember that everything before a row of tiles is finished.

        Args:
            frame: number of the frame.
            row: number of the next row of tiles in it.
            above: the open fade above that row.

        Raises:
            HriusrError: the disk is full.
        """
        try:
            os.fsync(self._file)
            if above is not None:
                with open(self._fade_path(frame, row), "wb") as file:
                    np.save(file, above.cpu().numpy())
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise HriusrError(f"cannot write {self.folder}: {error.strerror}; make room and run it again") from None
        old = self._fade_path(self._state["frame"], self._state["row"])
        self._state |= {"frame": frame, "row": row}
        write_atomically(self.folder / _STATE, json.dumps(self._state).encode())
        (self.folder / _TRIED).unlink(missing_ok=True)
        if old != self._fade_path(frame, row):
            old.unlink(missing_ok=True)

    def _read_state(self) -> bool:
        state = self._read(_STATE)
        if not state or not self.pixels_path.exists():
            return False
        self._state = state
        return True

    def _read(self, name: str) -> dict[str, Any]:
        """Read a file of the scratch folder; empty where there is none, or one of another run."""
        try:
            content = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if content.get("identity") == self._state["identity"] else {}

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < self.num_bytes:
            raise HriusrError(
                f"{self.folder.parent} has {free / 1e9:.2f} GB free, the pixels of the result need "
                f"{self.num_bytes / 1e9:.2f} GB beside the result itself: make room, or choose another output"
            )

    def _fade_path(self, frame: int, row: int) -> Path:
        return self.folder / f"fade_{frame}_{row}.npy"

    def _remove_content(self) -> None:
        for path in (self.pixels_path, self.folder / _STATE, self.folder / _TRIED, *self.folder.glob("fade_*.npy")):
            path.unlink(missing_ok=True)

    def _remove(self) -> None:
        self._remove_content()
        shutil.rmtree(self.folder, ignore_errors=True)


def _write_all(file: int, content: memoryview, offset: int) -> None:
    while content:
        num_written = os.pwrite(file, content, offset)
        content, offset = content[num_written:], offset + num_written
