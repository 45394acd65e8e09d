"""Are these the very pictures that published numbers were measured on? Known sets, compared pixel by pixel.

A picture's hash is SHA-256 of "<height> <width> 3\\n" and its RGB bytes: the same for PNG and BMP, whatever the file is
called. A set's hash is SHA-256 of its pictures' hashes, sorted, one a line. The tables stand in checksums.py.
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from hriusr.data.checksums import KNOWN_SETS
from hriusr.data.image_io import list_images, read_image
from hriusr.data.prepare_jobs import run_job
from hriusr.errors import DataError


@dataclass(frozen=True)
class Verification:
    """What came out of comparing a folder with a known set.

    Attributes:
        folder: what was compared.
        known: key in KNOWN_SETS, such as "set5/HR".
        num_same: pictures that are pixel by pixel those of the set.
        missing: names (ours) of pictures of the set that are not in the folder.
        unknown: files in the folder that are not in the set.
        is_exact: the folder holds the set, the whole set and nothing but the set.
    """

    folder: Path
    known: str
    num_same: int
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    is_exact: bool

    def __str__(self) -> str:
        if self.is_exact:
            return f"{self.folder}: all {self.num_same} pictures are those of {self.known}"
        parts = [f"{self.num_same} pictures are those of {self.known}"]
        for names, what in ((self.missing, "are missing"), (self.unknown, "are other pictures")):
            if names:
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})")
        return f"{self.folder}: {'; '.join(parts)}"


def picture_hash(path: str | Path) -> str:
    """Hash the pixels of a picture, as the module's docstring says; 64 hexadecimal digits.

    Raises:
        DataError: the picture cannot be read.
    """
    image_HWC = read_image(path)
    head = f"{image_HWC.shape[0]} {image_HWC.shape[1]} 3\n".encode()
    return hashlib.sha256(head + image_HWC.tobytes()).hexdigest()


def set_hash(picture_hashes: list[str]) -> str:
    """Hash a set of pictures from the hashes of its pictures."""
    return hashlib.sha256("\n".join(sorted(picture_hashes)).encode()).hexdigest()


def verify_folder(
    folder: str | Path, known: str, *, num_processes: int | None = None, progress: bool = True
) -> Verification:
    """Compare a folder with a known set.

    Args:
        folder: pictures; file names and formats do not matter.
        known: key in KNOWN_SETS: "set5/HR", "set5/X2", "urban100/HR" ...
        num_processes: how many read at once; None: one a CPU core.
        progress: show a bar on stderr.

    Raises:
        DataError: the set is not known, the folder is missing or empty, or a picture cannot be read.
    """
    if known not in KNOWN_SETS:
        raise DataError(f"{known} has no checksums: there are some for {', '.join(KNOWN_SETS)}")
    paths = list_images(folder)
    hashes = list(run_job("verify", picture_hash, paths, num_processes=num_processes, progress=progress))
    names_of = _names_by_digits(known)
    found = {names_of[digest[:16]] for digest in hashes if digest[:16] in names_of}
    return Verification(
        folder=Path(folder),
        known=known,
        num_same=len(found),
        missing=tuple(sorted(set(names_of.values()) - found)),
        unknown=tuple(path.name for path, digest in zip(paths, hashes, strict=True) if digest[:16] not in names_of),
        is_exact=set_hash(hashes) == KNOWN_SETS[known].sha256,
    )


@functools.cache
def _names_by_digits(known: str) -> dict[str, str]:
    """Return the first 16 digits of each picture's hash -> its name."""
    fields = KNOWN_SETS[known].pictures.split()
    return dict(zip(fields[1::2], fields[::2], strict=True))
