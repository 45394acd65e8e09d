"""EXIF in TIFF, which libvips neither reads nor writes: tags of the first page, and the directories they point to."""

import io
import logging
import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, TiffImagePlugin

from hriusr.data.image_io import raise_pillows_limit
from hriusr.pictures.vips import load_vips

logger = logging.getLogger(__name__)

_TEXTS = [getattr(ExifTags.Base, name) for name in ("Make", "Model", "Software", "DateTime", "Artist", "Copyright")]
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_STALE = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.IFD.Interop)
_ASCII, _LONG = 2, 4  # types of values, TIFF 6.0


def exif_fields(path: Path) -> dict[str, bytes | str]:
    """Return a TIFF's EXIF by libvips' names, as a JPEG with the same EXIF would give it; {} where it has none."""
    raise_pillows_limit()
    try:
        with warnings.catch_warnings(), Image.open(path, formats=("TIFF",)) as image:
            warnings.simplefilter("ignore")
            kept = _kept(image.getexif())
        return _as_vips_reads_it(kept) if kept else {}
    except Exception:  # whether the pixels can be read is another question
        logger.debug("no EXIF of %s", path, exc_info=True)
        return {}


def _as_vips_reads_it(kept: dict[int, object]) -> dict[str, bytes | str]:
    """Put EXIF into a picture that libvips reads: a PNG, since a JPEG has room for 64 kB."""
    exif, file = Image.Exif(), io.BytesIO()
    exif.update(kept)
    Image.new("L", (1, 1)).save(file, "PNG", exif=exif)
    picture = load_vips().Image.pngload_buffer(file.getvalue())
    names = [name for name in picture.get_fields() if name == "exif-data" or name.startswith("exif-ifd")]
    wrong = ("Resolution", "XDimension", "YDimension", "ResolutionUnit")  # of the PNG
    fields = {name: picture.get(name) for name in names if not name.endswith(wrong)}
    return fields | {"exif-data": b"Exif\0\0" + fields["exif-data"]}  # as a JPEG has it


def add_exif(file: BinaryIO, exif_data: bytes) -> bool:
    """Write EXIF to a finished TIFF: its first directory again at its end, with more entries.

    Args:
        file: opened for reading and writing.
        exif_data: as libvips has it.

    Returns:
        Whether it could be done: not in BigTIFFs, nor where the EXIF is damaged; the file is then as it was.
    """
    file.seek(0)
    head = file.read(8)
    order = "<" if head[:2] == b"II" else ">"
    magic, start = struct.unpack(f"{order}2xHL", head)
    if magic != 42:
        return False
    try:
        kept = _directories_as_bytes(exif_data, head)
    except Exception:  # whatever a parser raises at damaged data
        logger.debug("EXIF that cannot be read", exc_info=True)
        return False
    file.seek(start)
    (count,) = struct.unpack(f"{order}H", file.read(2))
    entries = [file.read(12) for _ in range(count)]
    known = {entry[:2] for entry in entries}
    following = file.read(4)
    for tag, value in kept.items():
        if struct.pack(f"{order}H", tag) in known:
            continue
        place = _even_end(file)
        if callable(value):
            file.write(value(place))
            entries.append(struct.pack(f"{order}HHLL", tag, _LONG, 1, place))
            continue
        content = value.ljust(4, b"\0")
        if len(value) > 4:
            file.write(value)
            content = struct.pack(f"{order}L", place)
        entries.append(struct.pack(f"{order}HHL", tag, _ASCII, len(value)) + content)
    place = _even_end(file)
    entries.sort(key=lambda entry: struct.unpack(f"{order}H", entry[:2]))
    file.write(struct.pack(f"{order}H", len(entries)) + b"".join(entries) + following)
    file.seek(4)
    file.write(struct.pack(f"{order}L", place))
    return True


def _directories_as_bytes(exif_data: bytes, head: bytes) -> dict[int, bytes | Callable[[int], bytes]]:
    """Return each tag's text with its end, or what makes a directory of the place where it will lie."""
    exif, found = Image.Exif(), {}
    exif.load(exif_data)
    for tag, value in _kept(exif).items():
        if isinstance(value, dict):
            directory = TiffImagePlugin.ImageFileDirectory_v2(ifh=head[:4] + bytes(4), group=tag)
            directory.update(value)
            directory.tobytes(8)  # what is wrong in it shows before the file is touched
            found[tag] = directory.tobytes
        else:
            found[tag] = (value.encode() if isinstance(value, str) else value) + b"\0"
    return found


def _kept(exif: Image.Exif) -> dict[int, object]:
    """Choose what stays true of a larger picture: texts, and the directories of camera and place."""
    texts = {int(tag): _as_was(exif[tag]) for tag in _TEXTS if isinstance(exif.get(tag), str) and exif[tag]}
    directories = {
        int(tag): {key: _as_was(value) for key, value in exif.get_ifd(tag).items() if key not in _STALE}
        for tag in _DIRECTORIES
    }
    return texts | {tag: values for tag, values in directories.items() if values}


def _as_was(value: object) -> object:
    """Return a text's own bytes where it is not ASCII: Pillow reads them as Latin-1, and would write question marks."""
    return value.encode("latin-1", "replace") if isinstance(value, str) and not value.isascii() else value


def _even_end(file: BinaryIO) -> int:
    """Go to the file's end, made even, as TIFF asks for where directories and values begin."""
    if file.seek(0, os.SEEK_END) % 2:
        file.write(b"\0")
    return file.tell()
