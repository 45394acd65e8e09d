"""Is a GIF whole? libvips shows what there is of a frame that is cut off, so its blocks are walked first (GIF89a)."""

from typing import BinaryIO

_TRAILER, _EXTENSION, _IMAGE = 0x3B, 0x21, 0x2C


class _CutOffError(Exception):
    """The file ends inside a block."""


def gif_is_whole(file: BinaryIO) -> bool:
    """Tell whether every block of a GIF is there. The trailer may lack, and anything may follow it.

    Args:
        file: at its beginning.
    """
    try:
        _skip_colours(_read(file, 13)[10], file)
        while (kind := file.read(1)) and kind[0] != _TRAILER:
            if kind[0] == _EXTENSION:
                _read(file, 1)
            elif kind[0] == _IMAGE:
                _skip_colours(_read(file, 9)[8], file)
                _read(file, 1)  # least size of a code
            else:
                return True  # nothing that the standard knows; the decoder decides
            while length := _read(file, 1)[0]:
                _read(file, length)
    except _CutOffError:
        return False
    return True


def _skip_colours(flags: int, file: BinaryIO) -> None:
    if flags & 0x80:
        _read(file, 3 * 2 ** ((flags & 7) + 1))


def _read(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise _CutOffError
    return content
