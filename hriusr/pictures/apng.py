"""How many frames has a PNG? libvips reads the first of an animation (APNG) and does not say that there are more."""

import struct
from typing import BinaryIO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def count_png_frames(file: BinaryIO) -> int:
    """Return the number of frames that a PNG's animation control chunk names, 1 where there is none.

    Args:
        file: at its beginning.
    """
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        return 1
    while len(head := file.read(8)) == 8:
        num_bytes, kind = struct.unpack(">I4s", head)
        if kind == b"acTL" and num_bytes == 8:
            content = file.read(4)
            return max(1, int.from_bytes(content, "big"))
        if kind in (b"IDAT", b"IEND"):  # it must come before them
            break
        file.seek(num_bytes + 4, 1)
    return 1
