"""Which pictures belong to a dataset: folders, meta-info files and databases turned into lists.

A meta-info file has one picture a line, its ground-truth name first: `0001_s001.png (480,480,3)`. It may have spaces.
"""

import functools
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hriusr.data.image_io import IMAGE_SUFFIXES, list_images
from hriusr.data.lmdb_store import lmdb_keys
from hriusr.data.text_lines import read_lines
from hriusr.errors import DataError

logger = logging.getLogger(__name__)

_SUFFIX = f"({'|'.join(map(re.escape, IMAGE_SUFFIXES))})"
_LINES = (  # with the size, greedily: it may stand in the name too; without
    re.compile(rf"(.+{_SUFFIX}) \(\d+, ?\d+, ?\d+\)( .*)?", re.IGNORECASE),
    re.compile(rf"(.+?{_SUFFIX})( .*)?", re.IGNORECASE),
)


class PicturePair(NamedTuple):
    """Where the two pictures of an item are: file paths, or keys of databases."""

    gt: str
    lq: str | None
    """None: made from gt."""


def read_meta_info(path: str | Path, near: str | Path = ".") -> list[str]:
    """Read the names from a meta-info file.

    Option files of BasicSR and HAT name files inside those packages (`basicsr/data/meta_info/X`). Where such a path
    does not exist, X is looked for in datasets/meta_info and in meta_info beside the folders above `near`.

    Args:
        path: the file as the option file names it.
        near: the dataset's folder.

    Raises:
        DataError: the file is nowhere, or lists nothing.
    """
    places = [Path(path)]
    if Path(path).parent.name == "meta_info":
        above = [folder / "meta_info" for folder in Path(near).absolute().parents[:3]]
        places += [folder / Path(path).name for folder in (Path("datasets/meta_info"), *above)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = " nor at ".join(str(place) for place in places[:2])
        raise DataError(
            f"meta_info_file is neither at {looked}: make it with `hriusr prepare meta-info`, or leave the key out "
            "to take every picture of the folder"
            if len(places) > 1
            else f"meta_info_file {path} does not exist: make it with `hriusr prepare meta-info`, or leave the key out"
        )
    names = [_name_in(line) for line in read_lines(found)]
    if not names:
        raise DataError(f"meta_info_file {found} lists no picture: make it again with `hriusr prepare meta-info`")
    return names


def _name_in(line: str) -> str:
    """Return the name that a line begins with: up to the size, a suffix or, as in BasicSR, the first space."""
    match = next(filter(None, (pattern.fullmatch(line) for pattern in _LINES)), None)
    return match[1] if match else line.split(" ")[0]


def single_paths(folder: str, meta_info_file: str | None, *, recursive: bool = False) -> list[str]:
    """List the pictures of one folder, or those that a meta-info file names.

    Args:
        folder: where they are.
        meta_info_file: their names; None: every picture.
        recursive: also those of the folders below.

    Raises:
        DataError: something is missing or empty.
    """
    if meta_info_file is None:
        return [str(path) for path in list_images(folder, recursive=recursive)]
    paths = [os.path.join(folder, name) for name in read_meta_info(meta_info_file, folder)]
    _refuse_missing(paths, f"{meta_info_file} lists")
    return paths


def paired_paths(
    gt_folder: str,
    lq_folder: str | None,
    meta_info_file: str | None,
    filename_tmpl: str = "{}",
    *,
    recursive: bool = False,
) -> list[PicturePair]:
    """List the pairs of two folders.

    Args:
        gt_folder: ground truth.
        lq_folder: low resolution; None: made from gt.
        meta_info_file: takes the names from this file instead of gt_folder.
        filename_tmpl: lq name from a gt name, both without suffix. The suffix may differ from gt's.
        recursive: also the pictures of the folders below gt_folder.

    Raises:
        DataError: a folder is missing or empty, or a picture has no partner.
    """
    gt_paths = single_paths(gt_folder, meta_info_file, recursive=recursive)
    if lq_folder is None:
        return [PicturePair(gt_path, None) for gt_path in gt_paths]
    check_template(filename_tmpl, "filename_tmpl", "{}x4")
    list_stems = functools.cache(_list_stems)  # one pass a folder, instead of a look-up a picture
    pairs, missing = [], []
    for gt_path in gt_paths:
        name, suffix = os.path.splitext(os.path.relpath(gt_path, gt_folder))
        subfolder, stem = os.path.split(name)
        lq_stem = filename_tmpl.format(stem)
        # a subfolder alike is the natural place; BasicSR looks for the lq of sub/x.png beside all others
        folders = dict.fromkeys((os.path.join(lq_folder, subfolder), lq_folder))
        folder = next((folder for folder in folders if lq_stem in list_stems(folder)), None)
        if folder is None:
            missing.append((gt_path, stem, lq_stem))
            continue
        suffixes = list_stems(folder)[lq_stem]
        lq_suffix = suffix if suffix in suffixes else suffixes[0]
        pairs.append(PicturePair(gt_path, os.path.join(folder, lq_stem + lq_suffix)))
    if missing:
        _refuse_unpaired(gt_folder, lq_folder, missing, len(gt_paths))
    _refuse_shared(pairs)
    num_left = len(list_stems(lq_folder)) - len(pairs)
    if meta_info_file is None and num_left > 0:
        logger.warning("%d pictures of %s have no partner in %s and are left out", num_left, lq_folder, gt_folder)
    return pairs


def _refuse_shared(pairs: list[PicturePair]) -> None:
    """Refuse that two pictures have the same partner."""
    gt_of_lq: dict[str | None, str] = {}
    for pair in pairs:
        other = gt_of_lq.setdefault(pair.lq, pair.gt)
        if other != pair.gt:
            is_one_folder = os.path.dirname(other) == os.path.dirname(pair.gt)
            remedy = "rename one" if is_one_folder else "give the folder of lq the subfolders that the one of gt has"
            raise DataError(f"{pair.lq} would be the partner of both {other} and {pair.gt}: {remedy}")


def check_template(template: str, key: str, example: str) -> None:
    """Refuse a template of names in which `{}` does not stand exactly once, or which has other braces.

    Args:
        template: of file names without suffix.
        key: what the message calls it.
        example: a template that is right.

    Raises:
        DataError: it is not of that form.
    """
    before, braces, after = template.partition("{}")
    if not braces or set("{}") & {*before, *after}:
        raise DataError(f"{key} (={template!r}) must hold {{}} once, for the name without suffix, such as {example!r}")


def paired_keys(gt_database: str, lq_database: str | None) -> list[PicturePair]:
    """List the pairs of two LMDB databases: the same key in both.

    Raises:
        DataError: a database is missing or broken, or their keys differ.
    """
    gt_keys = sorted(lmdb_keys(gt_database))
    if lq_database is None:
        return [PicturePair(key, None) for key in gt_keys]
    lq_keys = set(lmdb_keys(lq_database))
    alone = sorted(lq_keys.symmetric_difference(gt_keys))
    if alone:
        only_in = lq_database if alone[0] in lq_keys else gt_database
        raise DataError(
            f"{len(alone)} keys stand in one of {gt_database} and {lq_database} alone, first {alone[0]!r} "
            f"in {only_in}: make both again with `hriusr prepare lmdb --overwrite`"
        )
    return [PicturePair(key, key) for key in gt_keys]


def _list_stems(folder: str) -> dict[str, list[str]]:
    """List a folder's pictures: name without suffix -> suffixes; nothing where there is no such folder."""
    stems: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
            stems.setdefault(stem, []).append(suffix)
    return stems


def _refuse_missing(paths: Sequence[str], who: str) -> None:
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise DataError(
            f"{who} {len(paths)} pictures of which {len(missing)} do not exist, first {missing[0]}: "
            "check the folder, or make the list again with `hriusr prepare meta-info`"
        )


def _refuse_unpaired(gt_folder: str, lq_folder: str, missing: list[tuple[str, str, str]], num_gt: int) -> None:
    """Say which picture has no partner, and guess why."""
    gt_path, stem, lq_stem = missing[0]
    if not os.path.isdir(lq_folder):
        raise DataError(f"folder {lq_folder} does not exist: check dataroot_lq, or leave it out to make lq from gt")
    alike = sorted((name for name in _list_stems(lq_folder) if stem in name), key=len)
    remedy = "add the files, or leave dataroot_lq out to make lq from gt"
    if alike:
        remedy = f"there is {alike[0]}: set filename_tmpl: '{alike[0].replace(stem, '{}', 1)}'"
    raise DataError(
        f"{len(missing)} of {num_gt} pictures of {gt_folder} have no partner in {lq_folder}, first {gt_path} "
        f"(looked for {lq_stem}); {remedy}"
    )
