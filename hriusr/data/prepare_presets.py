"""Known datasets in their usual places: `hriusr prepare set5`, `... df2k` and so on, below one root folder.

    benchmark sets (Set5, Set14, BSD100, Urban100, Manga109)
        <Set>/HR/*                               what you download; other usual places are looked at too
        <Set>/LR_bicubic/X<s>/<name>x<s>.png     made
        <Set>/{GTmod<s>,LRbicx<s>}/<name>.png    made instead with layout hat
    DIV2K, Flickr2K
        <Set>/<Set>_HR or DIV2K/DIV2K_train_HR   what you download
        DIV2K/DIV2K_train_LR_bicubic/X<s>, Flickr2K/Flickr2K_LR_bicubic/X<s>
    sub-images of DIV2K (BasicSR's names) and of both together (HAT's)
        DIV2K/DIV2K_train_HR_sub, DIV2K/DIV2K_train_LR_bicubic/X<s>_sub, meta_info/meta_info_DIV2K800sub_GT.txt
        DF2K/DF2K_HR_sub, DF2K/DF2K_bicx<s>_sub, meta_info/meta_info_DF2Ksub_GT.txt
        for 5 and 8, which no published recipe has, HR is cut apart: DIV2K_train_HR_sub_X8, meta_info_DF2Ksub_X8_GT.txt

datasets/README.md says where each set comes from.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from hriusr.data.checksums import KNOWN_SETS
from hriusr.data.image_io import list_images
from hriusr.data.output_folder import noted_options
from hriusr.data.prepare import prepare_bicubic, prepare_lmdb, prepare_meta_info, prepare_subimages
from hriusr.data.prepare_jobs import JobResult
from hriusr.data.verify import Verification, verify_folder
from hriusr.errors import DataError

logger = logging.getLogger(__name__)

BENCHMARKS = {"set5": "Set5", "set14": "Set14", "bsd100": "BSD100", "urban100": "Urban100", "manga109": "Manga109"}
PRESETS = (*BENCHMARKS, "div2k", "df2k")
_CROP_SIZE, _STEP = 480, 240  # of HR; divisible by every scale
_SCALES = (2, 3, 4, 5, 6, 8)
_USUAL_MULTIPLE = 12  # of HR's sides: with it the squares of DIV2K are those of BasicSR's list


@dataclass(frozen=True)
class _Runner:
    """How each job of a preset is run."""

    num_processes: int | None
    overwrite: bool
    progress: bool

    def keywords(self) -> dict[str, int | bool | None]:
        """Return the keywords that all jobs take."""
        return {"num_processes": self.num_processes, "overwrite": self.overwrite, "progress": self.progress}


@dataclass(frozen=True)
class _SubimagePlaces:
    """Where the sub-images of a set go: HR and its list by _hr_suffix, LR by scale."""

    hr: Callable[[str], Path]
    lr: Callable[[int], Path]
    lr_database: Callable[[int], Path]
    meta_info: Callable[[str], Path]


def prepare_preset(
    name: str,
    root: str | Path = "datasets",
    *,
    scales: Sequence[int] = (2, 3, 4),
    layout: Literal["edsr", "hat"] = "edsr",
    lmdb: bool = False,
    num_processes: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> list[JobResult]:
    """Make everything that training or testing on a known dataset needs, from its downloaded HR pictures.

    Args:
        name: one of PRESETS, in any case.
        root: folder of all datasets.
        scales: factors to make LR pictures for.
        layout: of benchmark sets; hat: folders and names that HAT's option files expect.
        lmdb: of DIV2K and DF2K: also databases of the sub-images.
        num_processes: how many pictures are worked on at once; None: one a CPU core.
        overwrite: make everything again.
        progress: show bars on stderr.

    Returns:
        What each job did, in their order.

    Raises:
        DataError: the name is not known, its HR pictures are not below root, a picture is unreadable, or there are
            sub-images of another grid.
    """
    name, root = name.lower(), Path(root)
    if name not in PRESETS:
        raise DataError(f"{name} is no known dataset: use one of {', '.join(PRESETS)}, or `hriusr prepare bicubic`")
    if not scales or not set(scales) <= set(_SCALES):
        raise DataError(f"scales (={list(scales)}) must be among 2, 3, 4, 5, 6 and 8")
    runner = _Runner(num_processes, overwrite, progress)
    if name in BENCHMARKS:
        return _prepare_benchmark(name, root, scales, layout, runner)
    if name == "div2k":
        return _prepare_div2k(root, scales, lmdb, runner)
    return _prepare_df2k(root, scales, lmdb, runner)


def verify_preset(
    name: str, root: str | Path = "datasets", *, num_processes: int | None = None, progress: bool = True
) -> list[Verification]:
    """Compare a benchmark set's HR, and its LR where there are checksums and files, with the known pictures.

    Args:
        name: set5 or urban100, in any case.
        root: folder of all datasets.
        num_processes: how many pictures are read at once; None: one a CPU core.
        progress: show bars on stderr.

    Raises:
        DataError: there are no checksums for the set, or its HR pictures are not below root.
    """
    name = name.lower()
    kinds = {known.split("/")[1]: known for known in KNOWN_SETS if known.startswith(f"{name}/")}
    if not kinds:
        known_names = ", ".join(dict.fromkeys(known.split("/")[0] for known in KNOWN_SETS))
        raise DataError(f"there are no checksums for {name}: `hriusr prepare verify` knows {known_names}")
    hr_folder, home = _find_benchmark(name, Path(root))
    check = partial(verify_folder, num_processes=num_processes, progress=progress)
    verifications = [check(hr_folder, kinds.pop("HR"))]
    for kind, known in kinds.items():
        if (home / "LR_bicubic" / kind).is_dir():
            verifications.append(check(home / "LR_bicubic" / kind, known))
    return verifications


def _prepare_benchmark(name: str, root: Path, scales: Sequence[int], layout: str, runner: _Runner) -> list[JobResult]:
    hr_folder, home = _find_benchmark(name, root)
    if f"{name}/HR" in KNOWN_SETS:
        found = verify_folder(hr_folder, f"{name}/HR", num_processes=runner.num_processes, progress=runner.progress)
        if not found.is_exact:
            logger.warning("%s; numbers measured on them do not compare with published ones", found)
    results = []
    for scale in scales:
        if layout == "hat":
            target, template, cropped = home / f"LRbicx{scale}", "{}", home / f"GTmod{scale}"
        else:
            target, template, cropped = home / "LR_bicubic" / f"X{scale}", f"{{}}x{scale}", None
        make = partial(prepare_bicubic, hr_folder, target, scale=scale, filename_tmpl=template)
        results.append(make(cropped_hr_folder=cropped, **runner.keywords()))
    return results


def _find_benchmark(name: str, root: Path) -> tuple[Path, Path]:
    """Return the folder of a set's HR pictures and the folder beside or below which everything else goes."""
    folder = BENCHMARKS[name]
    names = (folder, "B100", "BSDS100", name) if name == "bsd100" else (folder, name)
    homes = [parent / each for parent in (root, root / "benchmark", root / "benchmarks") for each in names]
    for home in homes:
        for hr_folder in (home / "HR", home / "GTmod12", home / "original", home):
            if _holds_pictures(hr_folder):
                return hr_folder, home
    raise DataError(f"no pictures of {folder} in {homes[0] / 'HR'}: datasets/README.md says where to get them")


def _prepare_div2k(root: Path, scales: Sequence[int], lmdb: bool, runner: _Runner) -> list[JobResult]:
    home = root / "DIV2K"
    hr_folder = _find_training_set("DIV2K", root)
    lr_folders = {scale: home / "DIV2K_train_LR_bicubic" / f"X{scale}" for scale in scales}
    results = _make_lr(hr_folder, lr_folders, runner)
    if _holds_pictures(home / "DIV2K_valid_HR"):
        valid = {scale: home / "DIV2K_valid_LR_bicubic" / f"X{scale}" for scale in scales}
        results += _make_lr(home / "DIV2K_valid_HR", valid, runner)
    places = _SubimagePlaces(
        hr=lambda suffix: home / f"DIV2K_train_HR_sub{suffix}",
        lr=lambda scale: home / "DIV2K_train_LR_bicubic" / f"X{scale}_sub",
        lr_database=lambda scale: home / f"DIV2K_train_LR_bicubic_X{scale}_sub.lmdb",
        meta_info=lambda suffix: root / "meta_info" / f"meta_info_DIV2K800sub{suffix}_GT.txt",
    )
    sources = {scale: [folder] for scale, folder in lr_folders.items()}
    return results + _make_subimages([hr_folder], sources, places, lmdb, runner)


def _prepare_df2k(root: Path, scales: Sequence[int], lmdb: bool, runner: _Runner) -> list[JobResult]:
    home = root / "DF2K"
    hr_folders = [_find_training_set("DIV2K", root), _find_training_set("Flickr2K", root)]
    lr_homes = [root / "DIV2K" / "DIV2K_train_LR_bicubic", root / "Flickr2K" / "Flickr2K_LR_bicubic"]
    results = []
    for hr_folder, lr_home in zip(hr_folders, lr_homes, strict=True):
        results += _make_lr(hr_folder, {scale: lr_home / f"X{scale}" for scale in scales}, runner)
    sources = {scale: [lr_home / f"X{scale}" for lr_home in lr_homes] for scale in scales}
    places = _SubimagePlaces(
        hr=lambda suffix: home / f"DF2K_HR_sub{suffix}",
        lr=lambda scale: home / f"DF2K_bicx{scale}_sub",
        lr_database=lambda scale: home / f"DF2K_bicx{scale}_sub.lmdb",
        meta_info=lambda suffix: root / "meta_info" / f"meta_info_DF2Ksub{suffix}_GT.txt",
    )
    return results + _make_subimages(hr_folders, sources, places, lmdb, runner)


def _find_training_set(name: str, root: Path) -> Path:
    folders = [root / name / f"{name}_train_HR", root / name / f"{name}_HR", root / name / "HR"]
    found = next(filter(_holds_pictures, folders), None)
    if found is None:
        usual = folders[0] if name == "DIV2K" else folders[1]
        raise DataError(f"no pictures of {name} in {usual}: datasets/README.md says where to get them")
    return found


def _make_lr(hr_folder: Path, lr_folders: dict[int, Path], runner: _Runner) -> list[JobResult]:
    return [
        prepare_bicubic(hr_folder, folder, scale=scale, **runner.keywords()) for scale, folder in lr_folders.items()
    ]


def _make_subimages(
    hr_sources: list[Path],
    lr_sources: dict[int, list[Path]],
    places: _SubimagePlaces,
    lmdb: bool,
    runner: _Runner,
) -> list[JobResult]:
    """Cut HR and LR on the same grid, list HR, and make databases where they are asked for."""
    if not runner.overwrite:
        _refuse_other_grid(lr_sources, places)
    results = []
    for suffix in dict.fromkeys(map(_hr_suffix, lr_sources)):
        scales, hr_target = [scale for scale in lr_sources if _hr_suffix(scale) == suffix], places.hr(suffix)
        multiple = _multiple(scales[0])
        hr_grid = {"crop_size": _CROP_SIZE, "step": _STEP, "multiple": multiple}
        results.append(prepare_subimages(hr_sources, hr_target, **hr_grid, **runner.keywords()))
        for scale in scales:
            grid = {"crop_size": _CROP_SIZE // scale, "step": _STEP // scale, "multiple": multiple // scale}
            options = {"filename_tmpl": f"{{}}x{scale}", **grid, **runner.keywords()}
            results.append(prepare_subimages(lr_sources[scale], places.lr(scale), **options))
        results.append(prepare_meta_info(hr_target, places.meta_info(suffix)))
        if lmdb:
            pairs = [(hr_target, hr_target.with_suffix(".lmdb"))]
            pairs += [(places.lr(scale), places.lr_database(scale)) for scale in scales]
            results += [prepare_lmdb(*pair, **runner.keywords()) for pair in pairs]
    _warn_of_other_grid(places)
    return results


def _multiple(scale: int) -> int:
    """Return what HR's sides are cropped to. Other scales that are asked for do not count: squares must stay put."""
    return math.lcm(_USUAL_MULTIPLE, scale)


def _hr_suffix(scale: int) -> str:
    """Return the end of HR's names for a scale: "", or "_X8" where its squares need a grid of their own."""
    return "" if _multiple(scale) == _USUAL_MULTIPLE else f"_X{scale}"


def _refuse_other_grid(scales: Iterable[int], places: _SubimagePlaces) -> None:
    for scale in scales:
        hr_folder = places.hr(_hr_suffix(scale))
        noted = noted_options(hr_folder).get("multiple", _multiple(scale))
        if noted != _multiple(scale):
            raise DataError(
                f"the pictures for {hr_folder} were cropped to multiples of {noted}, now it is {_multiple(scale)}: the "
                "squares would move away from those of LR; cut all again with --overwrite and -s for each scale in use"
            )


def _warn_of_other_grid(places: _SubimagePlaces) -> None:
    """Name LR squares, of scales that were not asked for, which do not lie on those of HR."""
    for scale in _SCALES:
        lr_folder, hr_folder = places.lr(scale), places.hr(_hr_suffix(scale))
        noted = noted_options(lr_folder).get("multiple")
        if noted and noted * scale != noted_options(hr_folder).get("multiple"):
            logger.warning("%s does not lie on %s: cut it again with -s %d", lr_folder, hr_folder, scale)


def _holds_pictures(folder: Path) -> bool:
    try:
        return bool(list_images(folder))
    except DataError:
        return False
