"""Is an encoded picture whole? What its bytes say without decoding it.

Some versions of OpenCV decode a truncated PNG or JPEG into half a picture and only write to stderr. So each format's
own marks of its end are checked first: PNG chunks with their CRC (ISO/IEC 15948), the JPEG end-of-image marker (ITU-T
T.81), the RIFF length of WebP, the pixel array's length in BMP. libtiff itself reports a TIFF that is cut off.
"""

import struct
import zlib
from collections.abc import Iterator
from mmap import mmap

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PHOTOMETRIC, _SAMPLES_PER_PIXEL, _EXTRA_SAMPLES = 262, 277, 338  # TIFF 6.0
_CMYK = 5
Buffer = bytes | mmap


def why_damaged(content: bytes) -> str | None:
    """Look for damage that a decoder may pass over.

    Args:
        content: the whole file, any format.

    Returns:
        What is wrong with it, as the end of a sentence that begins with the file's name; None where nothing is seen.
    """
    if not content:
        return "is empty (0 bytes)"
    if content.startswith(_PNG_SIGNATURE):
        return _why_damaged_png(content)
    if content.startswith(b"\xff\xd8"):
        return None if _jpeg_has_end(content) else "is cut off (a JPEG without its end)"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        announced = struct.unpack_from("<I", content, 4)[0] + 8
        return None if len(content) >= announced else f"is cut off ({len(content)} of {announced} bytes of WebP)"
    if content.startswith(b"BM"):
        announced = _bmp_length(content)
        return None if len(content) >= announced else f"is cut off ({len(content)} of {announced} bytes of BMP)"
    return None


def has_alpha(content: bytes) -> bool:
    """Tell whether a PNG, WebP or TIFF carries transparency.

    Args:
        content: the whole file; other formats give False.
    """
    if is_tiff(content):
        return tiff_channels(content) in (2, 4) and _tiff_value(content, _PHOTOMETRIC, 0) != _CMYK
    if content.startswith(_PNG_SIGNATURE):
        return content[25:26] in (b"\x04", b"\x06") or any(kind == b"tRNS" for kind, _ in _png_chunks(content))
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = content[12:16]
        if kind == b"VP8X":
            return bool(content[20] & 0x10)
        if kind == b"VP8L":  # signature byte, 14 bits of width, 14 of height, then the alpha bit
            return bool(struct.unpack_from("<I", content, 21)[0] >> 28 & 1)
    return False


def is_tiff(content: bytes) -> bool:
    """Tell whether the bytes begin as a TIFF does, either byte order, BigTIFF too."""
    return content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_channels(content: bytes) -> int:
    """Read how many channels the first picture of a TIFF has; 0 where that cannot be read (BigTIFF, cut off)."""
    return _tiff_value(content, _SAMPLES_PER_PIXEL, 1)


def tiff_leaves_opacity_open(content: Buffer) -> bool:
    """Tell whether a TIFF has a channel behind its colours without saying that it is opacity; BigTIFF gives False."""
    is_classic = content[:4] in (b"II*\0", b"MM\0*")
    return is_classic and _tiff_value(content, _EXTRA_SAMPLES, 1) == 0


def _tiff_value(content: Buffer, tag: int, default: int) -> int:
    order = "<" if content[:2] == b"II" else ">"
    try:
        directory = struct.unpack_from(order + "I", content, 4)[0]
        num_entries = struct.unpack_from(order + "H", content, directory)[0]
        for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
            if struct.unpack_from(order + "H", content, entry)[0] == tag:
                return struct.unpack_from(order + "H", content, entry + 8)[0]
    except struct.error:
        return 0
    return default


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield (kind, CRC is right) a chunk; stop where the bytes run out."""
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            return
        checksum = struct.unpack_from(">I", content, end - 4)[0]
        yield kind, zlib.crc32(memoryview(content)[position + 4 : end - 4]) == checksum
        position = end


def _why_damaged_png(content: bytes) -> str | None:
    for kind, is_right in _png_chunks(content):
        if not is_right:
            return f"is damaged (checksum of its PNG chunk {kind.decode('latin-1')!r} is wrong)"
        if kind == b"IEND":
            return None
    return "is cut off (a PNG without its end)"


def _jpeg_has_end(content: bytes) -> bool:
    """Walk the segments up to the first scan: a thumbnail inside them has an end of its own, which does not count."""
    position = 2
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            return False
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0xDA:  # start of scan: in its data 0xFF is followed by 0 or a restart marker
            return content.find(b"\xff\xd9", position) > 0
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            position += 2
        else:
            position += 2 + struct.unpack_from(">H", content, position + 2)[0]
    return False


def _bmp_length(content: bytes) -> int:
    """Compute the least length of an uncompressed BMP from its header; 0 where the header says nothing certain."""
    if len(content) < 34:
        return 34
    offset, header_size = struct.unpack_from("<II", content, 10)
    if header_size < 40:
        return offset
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    if compression not in (0, 3):
        return offset
    return offset + (abs(width) * bits + 31) // 32 * 4 * abs(height)
