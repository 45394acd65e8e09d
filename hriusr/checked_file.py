"""Files whose SHA-256 stands in SHA256SUMS beside them, in the format of `sha256sum -c`.

Zip checksums (CRC-32, in .pth and .state) miss what happens outside of a zip's entries, and a .safetensors has none. A
file that the list does not name is not checked. A leaf like errors.py: every layer but blocks may import it.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from hriusr.atomic_file import write_atomically

SUMS_NAME = "SHA256SUMS"


def write_checked(path: str | Path, content: bytes | memoryview, *, start_list: bool = True) -> str:
    """Write a file atomically and note its SHA-256 in its folder's list.

    An older file's line goes first, so that wherever a crash comes, no good file meets the checksum of another.

    Args:
        path: the file's place.
        content: all of the file.
        start_list: False: only where the folder has a list already.

    Returns:
        The SHA-256, 64 hexadecimal digits.

    Raises:
        HriusrError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    digest = hashlib.sha256(content).hexdigest()
    _change(path.parent, {path.name: None})
    write_atomically(path, content)
    if start_list or (path.parent / SUMS_NAME).exists():
        _change(path.parent, {path.name: digest})
    return digest


def link_checked(source: Path, target: Path) -> Path:
    """Give a file a second name, with its checksum; a copy where the disk knows no hard links.

    Args:
        source: exists.
        target: replaced where it exists.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, temporary)
    _change(target.parent, {target.name: None})
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # renaming one link of a file over another of the same file does nothing
    _change(target.parent, {target.name: read_checksums(source.parent).get(source.name)})
    return target


def remove_checked(*paths: Path) -> None:
    """Delete files, where they are there, and then their lines; all in one folder."""
    for path in paths:
        path.unlink(missing_ok=True)
    if paths:
        _change(paths[0].parent, {path.name: None for path in paths})


def forget_missing(folder: Path) -> None:
    """Drop the lines of files that are not there: a process was killed between deleting one and its line."""
    _change(folder, {name: None for name in read_checksums(folder) if not (folder / name).exists()})


def read_checksums(folder: Path) -> dict[str, str]:
    """Return file name -> SHA-256 of a folder's list; empty where there is none. Lines that are none are left out."""
    try:
        lines = (folder / SUMS_NAME).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[1].removeprefix("*"): pair[0].lower() for pair in pairs if len(pair) == 2 and len(pair[0]) == 64}


def is_damaged(path: Path) -> bool:
    """Tell whether a file differs from its line in its folder's list; False where it has none."""
    expected = read_checksums(path.parent).get(path.name)
    return expected is not None and file_sha256(path) != expected


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _change(folder: Path, changes: Mapping[str, str | None]) -> None:
    """Set or (None) drop lines; the list is written anew only where that changes it."""
    before = read_checksums(folder)
    after = {name: digest for name, digest in (before | dict(changes)).items() if digest is not None}
    if after != before:
        text = "".join(f"{digest}  {name}\n" for name, digest in after.items())
        write_atomically(folder / SUMS_NAME, text.encode("utf-8"))
