"""What `hriusr upscale` is asked to enlarge: files, folders and patterns become a list of files."""

import functools
import glob
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hriusr.data.image_io import IMAGE_SUFFIXES, natural_key
from hriusr.errors import DataError

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mkv", ".mov", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")
PICTURE_SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".jfif", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".tga", ".pcx", ".dib")


@dataclass
class InputGroup:
    """The files that one argument stands for.

    Attributes:
        root: the folder which names are relative to: the argument itself, a file's folder, or a pattern's part without
            wildcards.
        sources: files below it, in natural order of their names.
        kind: "file", "folder" or "pattern".
    """

    root: Path
    sources: list[Path]
    kind: str


@dataclass
class FoundInputs:
    """What was found.

    Attributes:
        groups: in the order of the arguments; a file that several arguments name is in the first one's.
        problems: (name, what is wrong with it, one line) of what could not be found or read.
    """

    groups: list[InputGroup] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def find_inputs(inputs: Sequence[str | Path], *, recursive: bool = True) -> FoundInputs:
    """List the pictures and videos that files, folders and patterns stand for.

    Args:
        inputs: a file of any name; a folder, of which files with a picture's or video's suffix count; or a pattern as
            shells have them (`*`, `?`, `[a-z]`, `**` for folders of any depth). What exists by that name is no pattern.
        recursive: also folders below folders.

    Raises:
        DataError: nothing at all was found.
    """
    found, seen = FoundInputs(), set()
    for item in inputs:
        group, problems = _find(Path(item), recursive)
        found.problems += problems
        if group is not None:
            group.sources = [path for path in group.sources if real_path(path) not in seen]
            seen.update(real_path(path) for path in group.sources)
            found.groups.append(group)
    found.groups = [group for group in found.groups if group.sources]
    if not found.groups:
        name, reason = found.problems[0] if found.problems else ("inputs", "none is given: name a picture or a folder")
        raise DataError(f"{name} {reason}")
    return found


def real_path(path: Path) -> Path:
    """Follow links as far as they can be followed; unlike Path.resolve, whatever the path."""
    return Path(os.path.realpath(path))


def _find(path: Path, recursive: bool) -> tuple[InputGroup | None, list[tuple[str, str]]]:
    if os.path.isdir(path):
        sources, problems = _walk(path, recursive)
        if not sources and not problems:
            problems = [(f"folder {path}", "holds no picture or video: check the path, or put some there")]
        return InputGroup(path, sources, "folder"), problems
    if os.path.lexists(path):
        return InputGroup(path.parent, [path], "file"), []
    if not glob.has_magic(str(path)):
        return None, [(str(path), _why_missing(path))]
    return _match(path, recursive)


def _why_missing(path: Path) -> str:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist: check the path"
    except OSError as error:
        return f"cannot be read ({error.strerror}): check its name and permissions"
    return "was not there when it was looked for: try again"


def _match(pattern: Path, recursive: bool) -> tuple[InputGroup | None, list[tuple[str, str]]]:
    """Find what a pattern matches; a folder that it matches stands for its pictures."""
    fixed: list[str] = []
    for part in pattern.parts:
        if glob.has_magic(part) and not os.path.lexists(Path(*fixed, part)):
            break
        fixed.append(part)
    else:
        return None, [(str(pattern), "does not exist: check the path")]
    root, rest = Path(*fixed), pattern.parts[len(fixed) :]
    sources, problems = [], []
    for match in glob.glob(os.path.join(glob.escape(str(root)), *rest), recursive=True):
        if os.path.isdir(match):
            if rest[-1] != "**":  # which matches the files below by itself
                below, more = _walk(Path(match), recursive)
                sources, problems = sources + below, problems + more
        elif _is_suitable(os.path.basename(match)):
            sources.append(Path(match))
    problems = list(dict.fromkeys(problems))
    if not sources and not problems:
        problems = [(str(pattern), "matches no picture or video: check the pattern")]
    return InputGroup(root, sorted(set(sources), key=lambda path: natural_key(str(path))), "pattern"), problems


def _walk(folder: Path, recursive: bool) -> tuple[list[Path], list[tuple[str, str]]]:
    """List a folder's pictures and videos; folders that cannot be read are problems."""
    problems = []

    def note(error: OSError) -> None:
        problems.append((f"folder {error.filename}", f"cannot be read ({error.strerror}): check its permissions"))

    paths = []
    for parent, subfolders, names in os.walk(folder, onerror=note):
        subfolders[:] = [name for name in subfolders if recursive and not name.startswith(".")]
        for link in (os.path.join(parent, name) for name in subfolders):
            if os.path.islink(link):
                _warn_once(f"folder {link} is a link and is passed over: name it as an input of its own to take it")
        paths += [os.path.join(parent, name) for name in names if _is_suitable(name)]
    return [Path(path) for path in sorted(paths, key=natural_key)], problems


@functools.cache
def _warn_once(text: str) -> None:
    logger.warning("%s", text)  # inputs are looked for twice, before loading and when results are named


def _is_suitable(name: str) -> bool:
    return name.lower().endswith((*PICTURE_SUFFIXES, *VIDEO_SUFFIXES)) and not name.startswith(".")
