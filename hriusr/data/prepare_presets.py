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

datasets/README.md says where each set comes from.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from hriusr.data.checksums import KNOWN_SETS
from hriusr.data.image_io import list_images
from hriusr.data.prepare import prepare_bicubic, prepare_lmdb, prepare_meta_info, prepare_subimages
from hriusr.data.prepare_jobs import JobResult
from hriusr.data.verify import Verification, verify_folder
from hriusr.errors import DataError

logger = logging.getLogger(__name__)

BENCHMARKS = {"set5": "Set5", "set14": "Set14", "bsd100": "BSD100", "urban100": "Urban100", "manga109": "Manga109"}
PRESETS = (*BENCHMARKS, "div2k", "df2k")
_CROP_SIZE, _STEP = 480, 240  # of HR; divisible by 2, 3, 4 and 8


@dataclass(frozen=True)
class _Runner:
    """How each job of a preset is run."""

    num_processes: int | None
    overwrite: bool
    progress: bool

    def keywords(self) -> dict[str, int | bool | None]:
        """Return the keywords that all jobs take."""
        return {"num_processes": self.num_processes, "overwrite": self.overwrite, "progress": self.progress}


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
        DataError: the name is not known, its HR pictures are not below root, or a picture is unreadable.
    """
    name, root = name.lower(), Path(root)
    if name not in PRESETS:
        raise DataError(f"{name} is no known dataset: use one of {', '.join(PRESETS)}, or `hriusr prepare bicubic`")
    if not scales or min(scales) < 2 or any(_STEP % scale for scale in scales):
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
    lr_targets = {scale: home / "DIV2K_train_LR_bicubic" / f"X{scale}_sub" for scale in scales}
    databases = {scale: home / f"DIV2K_train_LR_bicubic_X{scale}_sub.lmdb" for scale in scales} if lmdb else {}
    sources = {scale: [folder] for scale, folder in lr_folders.items()}
    meta_info = root / "meta_info" / "meta_info_DIV2K800sub_GT.txt"
    hr_target = home / "DIV2K_train_HR_sub"
    return results + _make_subimages([hr_folder], hr_target, sources, lr_targets, meta_info, databases, runner)


def _prepare_df2k(root: Path, scales: Sequence[int], lmdb: bool, runner: _Runner) -> list[JobResult]:
    home = root / "DF2K"
    hr_folders = [_find_training_set("DIV2K", root), _find_training_set("Flickr2K", root)]
    lr_homes = [root / "DIV2K" / "DIV2K_train_LR_bicubic", root / "Flickr2K" / "Flickr2K_LR_bicubic"]
    results = []
    for hr_folder, lr_home in zip(hr_folders, lr_homes, strict=True):
        results += _make_lr(hr_folder, {scale: lr_home / f"X{scale}" for scale in scales}, runner)
    sources = {scale: [lr_home / f"X{scale}" for lr_home in lr_homes] for scale in scales}
    lr_targets = {scale: home / f"DF2K_bicx{scale}_sub" for scale in scales}
    databases = {scale: home / f"DF2K_bicx{scale}_sub.lmdb" for scale in scales} if lmdb else {}
    meta_info = root / "meta_info" / "meta_info_DF2Ksub_GT.txt"
    hr_target = home / "DF2K_HR_sub"
    return results + _make_subimages(hr_folders, hr_target, sources, lr_targets, meta_info, databases, runner)


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
    hr_target: Path,
    lr_sources: dict[int, list[Path]],
    lr_targets: dict[int, Path],
    meta_info: Path,
    lr_databases: dict[int, Path],
    runner: _Runner,
) -> list[JobResult]:
    """Cut HR and LR on the same grid, list HR, and make databases where they are asked for."""
    multiple = math.lcm(12, *lr_sources)  # 12: adding another usual scale later does not move the grid of HR
    hr_grid = {"crop_size": _CROP_SIZE, "step": _STEP, "multiple": multiple}
    results = [prepare_subimages(hr_sources, hr_target, **hr_grid, **runner.keywords())]
    for scale, sources in lr_sources.items():
        grid = {"crop_size": _CROP_SIZE // scale, "step": _STEP // scale, "multiple": multiple // scale}
        template = f"{{}}x{scale}"
        results.append(
            prepare_subimages(sources, lr_targets[scale], filename_tmpl=template, **grid, **runner.keywords())
        )
    results.append(prepare_meta_info(hr_target, meta_info))
    if lr_databases:
        results.append(prepare_lmdb(hr_target, hr_target.with_suffix(".lmdb"), **runner.keywords()))
    for scale, database in lr_databases.items():
        results.append(prepare_lmdb(lr_targets[scale], database, **runner.keywords()))
    return results


def _holds_pictures(folder: Path) -> bool:
    try:
        return bool(list_images(folder))
    except DataError:
        return False
