"""LMDB databases of pictures, in the layout of BasicSR's make_lmdb_from_imgs, read and written.

X.lmdb/data.mdb, lock.mdb   key: the picture's name without suffix; value: the encoded picture (PNG)
X.lmdb/meta_info.txt        a line a picture: `name.png (height,width,channels) compression`
"""

import contextlib
import functools
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

import lmdb

from hriusr.data.leftovers import remove_leftover_folders
from hriusr.data.text_lines import read_lines
from hriusr.errors import DataError

_META_INFO = "meta_info.txt"
_FILES = {"data.mdb", "lock.mdb", _META_INFO}
_LINE = re.compile(r"(?P<key>.+)\.[A-Za-z]+ \((?P<height>\d+),(?P<width>\d+),(?P<channels>\d+)\)( (?P<level>\d+))?$")
_REMEDY = "make it again with `hriusr prepare lmdb --overwrite`"
_lock = threading.Lock()


def lmdb_keys(path: str | Path) -> list[str]:
    """Read the keys of a database from its meta_info.txt.

    Args:
        path: folder whose name ends in .lmdb.

    Raises:
        DataError: there is no such database, its list is missing, empty or malformed.
    """
    path = Path(path)
    if path.suffix != ".lmdb":
        raise DataError(f"{path} is not named .lmdb: give a database, or set io_backend: {{type: disk}} for a folder")
    check_lmdb(path)
    try:
        lines = read_lines(path / _META_INFO)
    except OSError:
        raise DataError(f"{path / _META_INFO} cannot be read: the database is not whole; {_REMEDY}") from None
    keys = []
    for number, line in enumerate(lines, 1):
        match = _LINE.match(line)
        if match is None:
            raise DataError(
                f"{path / _META_INFO}:{number}: {line!r} is not of the form `name.png (h,w,c) level`: mend it, or "
                f"for the database: {_REMEDY}"
            )
        keys.append(match["key"])
    if not keys:
        raise DataError(f"{path / _META_INFO} lists no picture: the database is not whole; {_REMEDY}")
    return keys


def check_lmdb(path: str | Path) -> None:
    """Open a database and compare its length with what its header says.

    Raises:
        DataError: it is missing, cut off or no database.
    """
    if not (Path(path) / "data.mdb").is_file():
        raise DataError(f"{path} holds no LMDB database (data.mdb): make it with `hriusr prepare lmdb`")
    with _lock:
        _open(os.path.realpath(path))


def lmdb_get(path: str | Path, key: str) -> bytes:
    """Read one value; the database stays open in this process.

    Args:
        path: folder of the database.
        key: name of a picture without suffix.

    Raises:
        DataError: the database cannot be opened, is damaged or has no such key.
    """
    with _reading(path) as environment, environment.begin() as transaction:
        content = transaction.get(key.encode())
    if content is None:
        raise DataError(f"{path} has no picture {key!r} though {_META_INFO} lists it: {_REMEDY}")
    return content


def is_whole_lmdb(path: str | Path, keys: Sequence[str]) -> bool:
    """Tell whether a database has just these keys, in its list too; values are not looked at."""
    try:
        if sorted(lmdb_keys(path)) != sorted(keys):
            return False
        with _reading(path) as environment, environment.begin() as transaction, transaction.cursor() as cursor:
            held = {bytes(key) for key in cursor.iternext(values=False)}
    except DataError:
        return False
    return held == {key.encode() for key in keys}


def lmdb_num_entries(path: str | Path) -> int:
    """Return how many pictures a database really holds, whatever its list says.

    Raises:
        DataError: as check_lmdb.
    """
    check_lmdb(path)
    with _reading(path) as environment:
        return environment.stat()["entries"]


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[lmdb.Environment]:
    """Give the open database; what LMDB finds broken inside is a DataError."""
    with _lock:
        environment = _open(os.path.realpath(path))
    try:
        yield environment
    except lmdb.Error as error:
        raise DataError(f"{path} is damaged inside ({error}): copy it again, or {_REMEDY}") from None


@functools.cache
def _open(path: str) -> lmdb.Environment:
    """Open a database once a process: LMDB forbids a second handle."""
    _close_before_fork()
    try:
        environment = lmdb.open(path, readonly=True, lock=False, readahead=False, create=False, max_readers=2048)
    except lmdb.Error as error:
        raise DataError(f"{path} cannot be opened as LMDB ({error}): {_REMEDY}") from None
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    present = os.path.getsize(os.path.join(path, "data.mdb"))
    if present < needed:  # reading past the end of a mapped file would kill the process
        environment.close()
        raise DataError(f"{path} is cut off ({present} of {needed} bytes of data.mdb): copy it again, or {_REMEDY}")
    return environment


@functools.cache
def _close_before_fork() -> None:
    """Let a forked worker open its own handle: LMDB refuses one beside an inherited one. Ours opens again by itself."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_open.cache_clear)


def write_lmdb(
    path: str | Path,
    pictures: Iterable[tuple[str, bytes, tuple[int, int, int]]],
    *,
    map_size: int,
    compression: int,
    notes: dict[str, str] | None = None,
) -> int:
    """Write a database beside its place and move it there when it is whole.

    Args:
        path: folder whose name ends in .lmdb; an older database there is replaced.
        pictures: (key, encoded picture, (height, width, channels)) each.
        map_size: upper bound of the database's size, bytes.
        compression: PNG level noted in meta_info.txt.
        notes: further text files for the folder, name -> content.

    Returns:
        How many pictures it holds.

    Raises:
        DataError: the name does not end in .lmdb, something else than a database stands there, a key comes twice, the
            disk is full, or nothing can be written there.
    """
    path, files = Path(path), _FILES | set(notes or ())
    if path.suffix != ".lmdb":
        raise DataError(f"{path} must be named .lmdb: BasicSR tells databases from folders by that")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    outdated = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
    try:
        _refuse_strangers(path, files)
        remove_lmdb_leftovers(path, notes or ())
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        lines = _fill(temporary, pictures, map_size, compression)
        (temporary / _META_INFO).write_text("".join(lines), encoding="utf-8")
        for name, content in (notes or {}).items():
            (temporary / name).write_text(content, encoding="utf-8")
        if path.exists():
            os.replace(path, outdated)
        os.replace(temporary, path)
    except (lmdb.Error, OSError) as error:
        raise DataError(f"cannot write {path} ({error}): free space on the disk, or choose another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(outdated, ignore_errors=True)
        remove_lmdb_leftovers(path, notes or ())  # again: those that were too young at the start
    _open.cache_clear()
    return len(lines)


def remove_lmdb_leftovers(path: Path, notes: Iterable[str]) -> None:
    """Remove what killed processes left of writing a database.

    Args:
        path: of the database.
        notes: names of its further text files.
    """
    remove_leftover_folders(path, _FILES | set(notes))


def _refuse_strangers(path: Path, files: Set[str]) -> None:
    """Refuse to replace what is no database: it would be lost."""
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise DataError(f"{path} is a file, not a database: take it away, or choose another name")
    strangers = sorted(set(os.listdir(path)) - files)
    if strangers:
        raise DataError(
            f"{path} holds {strangers[0]}, which is no part of a database, and would be lost: take it out, or choose "
            "another name"
        )


def _fill(
    folder: Path, pictures: Iterable[tuple[str, bytes, tuple[int, int, int]]], map_size: int, compression: int
) -> list[str]:
    """Put the pictures into a new database; return the lines of its meta_info.txt."""
    lines = []
    # nothing is synced before the end: until then the database stands in a temporary folder
    with lmdb.open(str(folder), map_size=map_size, sync=False) as environment:
        for key, content, (height, width, channels) in pictures:
            with environment.begin(write=True) as transaction:
                if not transaction.put(key.encode(), content, overwrite=False):
                    raise DataError(f"two pictures have the key {key!r}: rename one, names without suffix must differ")
            lines.append(f"{key}.png ({height},{width},{channels}) {compression}\n")
        environment.sync(True)
    return lines
