"""Folders that jobs fill with pictures, and what is kept in them when a job runs again.

Every output is written whole or not at all. The folder keeps a note (.hriusr-prepare.json) of the options and of the
sources' lengths and checksums. Run again, a job keeps what is whole, has the right size, is no older than its source
and was made since these options, and this source, were noted. Pictures that stood in the folder before the first run
(official LR files, say) are adopted: kept where whole and of the right size, however old. The note lists them with
their lengths, so that one which the job has made anew is none of them any more.
"""

import contextlib
import json
import logging
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hriusr.atomic_file import write_atomically
from hriusr.data.image_bytes import why_damaged
from hriusr.data.image_io import image_size, list_images, read_file
from hriusr.data.leftovers import remove_leftover_files
from hriusr.errors import DataError

logger = logging.getLogger(__name__)

NOTE = ".hriusr-prepare.json"
_SAMPLE = 4096  # bytes


@dataclass(frozen=True)
class OutputFolder:
    """A folder that a job fills, and when an output in it need not be made again.

    Attributes:
        path: the folder.
        since_ns: outputs older than this were made with other options, or of other sources.
        replaced: names of sources that were other files once -> outputs older than this were made of those.
        adopted: pictures that the folder held before its first job -> bytes; those count whatever their age. True:
            those older than the note, which an earlier version wrote.
    """

    path: Path
    since_ns: int
    replaced: Mapping[str, int]
    adopted: Mapping[str, int] | Literal[True]

    @classmethod
    def open(
        cls, path: str | Path, options: dict[str, Any], sources: Sequence[Path], *, overwrite: bool = False
    ) -> "OutputFolder":
        """Make the folder and its note, or read the note and compare.

        Args:
            path: the folder.
            options: everything that decides on an output's content beside its source; JSON types.
            sources: pictures that outputs are to be made from; no two of one name.
            overwrite: nothing that stands in the folder counts.

        Raises:
            DataError: the path is a file, or nothing can be written there.
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            remove_leftover_files(path)
            note, noted = path / NOTE, _read_note(path)
            found = {source.name: _fingerprint(source) for source in sources}
            known = {} if noted is None else noted.get("sources", {})
            others = [name for name in found if name in known and known[name] != found[name]]
            is_other_folder = len(others) > 0 and len(others) == sum(name in known for name in found)
            if overwrite or noted is None or noted.get("options") != options or is_other_folder:
                adopted = {} if overwrite else _adopted_so_far(path, noted)
                noted = {"options": options, "adopted": adopted, "sources": found}
                write_atomically(note, json.dumps(noted).encode())
            elif others or known != known | found:
                since_ns = _time_ns(note)
                noted["replaced"] = noted.get("replaced", {}) | dict.fromkeys(others, _now_ns(path))
                noted["sources"] = known | found
                write_atomically(note, json.dumps(noted).encode())
                os.utime(note, ns=(since_ns, since_ns))  # what comes of the other sources still counts
            return cls(path, _time_ns(note), noted.get("replaced", {}), noted.get("adopted") or {})
        except OSError as error:
            raise DataError(f"no folder of pictures can be made at {path} ({error.strerror}): give another") from error

    def has(self, name: str, source: Path, size: tuple[int, int]) -> bool:
        """Tell whether an output is there, whole, of the right size and up to date.

        Args:
            name: file name in this folder.
            source: picture that it is made from.
            size: (H, W) that it must have.

        Raises:
            DataError: a picture of another size was there before the first job: nobody asked to replace it.
        """
        path = self.path / name
        try:
            status = path.stat()
            is_adopted = self._has_adopted(name, status)
            since_ns = max(self.since_ns, self.replaced.get(source.name, 0), source.stat().st_mtime_ns)
            is_old = status.st_mtime_ns < since_ns
            if is_old and not is_adopted:
                return False
            found = image_size(path)
            is_whole = found == size and why_damaged(read_file(path)) is None
        except (OSError, DataError):
            return False
        if is_adopted and found != size:
            raise DataError(
                f"{path} ({found[1]}x{found[0]}) was there before and is not {size[1]}x{size[0]}, as what is made of "
                f"{source}: give another folder, or --overwrite; are source and target swapped?"
            )
        return is_whole

    def _has_adopted(self, name: str, status: os.stat_result) -> bool:
        if self.adopted is True:
            return status.st_mtime_ns < self.since_ns
        return self.adopted.get(name) == status.st_size

    def warn_of_strangers(self, expected: Iterable[str]) -> None:
        """Log pictures that the job has not to do with: a dataset would take them too."""
        with contextlib.suppress(DataError):
            strangers = sorted({path.name for path in list_images(self.path)} - set(expected))
            if strangers:
                logger.warning(
                    "%d pictures in %s do not come from this job, first %s: remove them if they are not wanted",
                    len(strangers),
                    self.path,
                    strangers[0],
                )


def noted_options(folder: Path) -> dict[str, Any]:
    """Return the options that a folder's note names; none where there is no note."""
    return (_read_note(folder) or {}).get("options", {})


def _read_note(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _now_ns(folder: Path) -> int:
    """Return the time by the clock that stamps the folder's files."""
    probe = folder / f".{NOTE}.{os.getpid()}.tmp"  # a leftover like others if the process is killed here
    probe.write_bytes(b"")
    try:
        return _time_ns(probe)
    finally:
        probe.unlink()


def _time_ns(path: Path) -> int:
    return path.stat().st_mtime_ns


def _fingerprint(path: Path) -> list[int]:
    """Return a file's length, and a checksum of its start, middle and end: a copy has the same."""
    try:
        with open(path, "rb") as file:
            size, checksum = os.fstat(file.fileno()).st_size, 0
            for start in (0, size // 2, max(0, size - _SAMPLE)):
                file.seek(start)
                checksum = zlib.crc32(file.read(_SAMPLE), checksum)
    except OSError:  # whoever works on it says so
        return []
    return [size, checksum]


def _adopted_so_far(path: Path, noted: dict[str, Any] | None) -> dict[str, int]:
    """Return the pictures of a folder that no job made -> bytes, whatever the options were."""
    if noted is None:
        return _list_sizes(path)
    adopted = noted.get("adopted", {})
    if adopted is not True:
        return adopted
    since_ns = _time_ns(path / NOTE)
    return {name: size for name, size in _list_sizes(path).items() if (path / name).stat().st_mtime_ns < since_ns}


def _list_sizes(folder: Path) -> dict[str, int]:
    """Return the pictures of a folder, name -> bytes; none where there are none."""
    try:
        return {path.name: path.stat().st_size for path in list_images(folder)}
    except DataError:
        return {}
