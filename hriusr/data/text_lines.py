"""Lists of pictures in text files."""

from pathlib import Path

from hriusr.errors import DataError


def read_lines(path: str | Path) -> list[str]:
    """Return the lines of a text file that are not empty, without space around them.

    Args:
        path: UTF-8, with or without the mark that Windows editors put in front.

    Raises:
        DataError: it is no UTF-8.
        OSError: it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
