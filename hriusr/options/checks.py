"""Contradictions between options, and between options and the disk, found before anything is built.

Each check looks at one matter and notes all it finds; none of them stops at the first.
"""

from pathlib import Path

from hriusr.options.basicsr_form import phase_of
from hriusr.options.data_schema import DatasetOptions
from hriusr.options.dataset_checks import check_dataset
from hriusr.options.degradation_schema import DEGRADING_DATASET
from hriusr.options.problems import Problems
from hriusr.options.schedule_checks import check_schedule
from hriusr.options.schema import Options
from hriusr.options.spelling import did_you_mean


def check_options(options: Options, problems: Problems, *, is_train: bool) -> None:
    """Run every check.

    Args:
        options: validated options.
        problems: where to note what is wrong.
        is_train: for train.py; else what only training reads is not looked at.
    """
    _check_phases(options, problems, is_train)
    _check_names(options, problems)
    for entry, dataset in options.datasets.items():
        if is_used(entry, is_train):
            _check_sources(entry, dataset, problems)
            check_dataset(entry, dataset, problems)
    _check_weights(options, problems, is_train)
    _check_validation(options, problems, is_train)
    _check_tile(options, problems)
    if is_train:
        _check_patches(options, problems)
        if options.train is not None:
            check_schedule(options.train, problems)


def is_used(entry: str, is_train: bool) -> bool:
    """Whether train.py (train and val...) or test.py (test... and val...) reads a datasets entry."""
    return phase_of(entry) in (("train", "val") if is_train else ("val", "test"))


def _check_phases(options: Options, problems: Problems, is_train: bool) -> None:
    phases = [phase_of(entry) for entry in options.datasets]
    for entry, phase in zip(options.datasets, phases, strict=True):
        if phase not in ("train", "val", "test"):
            nearest = did_you_mean(phase, ["train", "val", "test"], list_all=False)
            problems.error(
                ("datasets", entry), f"datasets.{entry}: an entry is train, val, val_<x>, test or test_<x>{nearest}"
            )
        elif phase == "train" and entry != "train":
            problems.error(("datasets", entry), f"datasets.{entry}: there is one training set, named train")
    is_test_file = is_train and "test" in phases and "train" not in options.datasets and options.train is None
    if is_train and "train" not in options.datasets:
        hint = "; is it a test file? Then `hriusr test`, or --test for `options check` and `doctor`"
        problems.error(
            ("datasets", "train"),
            f"datasets.train is missing: training needs a training set{hint if is_test_file else ''}",
        )
    if not is_train and not {"test", "val"} & set(phases):
        problems.error(("datasets",), "datasets has no test_1 (or test, val ...): there is nothing to test")
    if is_train and options.train is None and not is_test_file:
        problems.error(("train",), "train is missing: the section with total_iter, optim_g, scheduler and a loss")


def _check_names(options: Options, problems: Problems) -> None:
    first: dict[str, str] = {}
    for entry, dataset in options.datasets.items():
        # a training set may well bear the name of a set it is validated on: it writes no results
        if phase_of(entry) == "train":
            continue
        if dataset.name in first:
            problems.error(
                ("datasets", entry, "name"),
                f"datasets.{entry}.name (={dataset.name!r}) is also that of datasets.{first[dataset.name]}: "
                "their results would overwrite each other",
            )
        first.setdefault(dataset.name, entry)


def _check_sources(entry: str, dataset: DatasetOptions, problems: Problems) -> None:
    path = ("datasets", entry)
    is_single = dataset.type == "SingleImageDataset"
    needed = "dataroot_lq" if is_single else "dataroot_gt"
    if getattr(dataset, needed) is None:
        problems.error((*path, needed), f"datasets.{entry}.{needed} is missing: {dataset.type} reads it")
    if is_single and dataset.dataroot_gt is not None:
        problems.warn((*path, "dataroot_gt"), f"datasets.{entry}.dataroot_gt is ignored: SingleImageDataset has no gt")
    if dataset.lq_on_the_fly and dataset.dataroot_lq is not None:
        problems.error(
            (*path, "lq_on_the_fly"),
            f"datasets.{entry}: lq_on_the_fly makes what dataroot_lq (={dataset.dataroot_lq!r}) holds; keep one",
        )
    if dataset.lq_on_the_fly is False and dataset.dataroot_lq is None and not is_single:
        problems.error((*path, "lq_on_the_fly"), f"datasets.{entry}: give dataroot_lq, or leave lq_on_the_fly out")
    for key in ("dataroot_gt", "dataroot_lq"):
        _check_root(entry, key, dataset, problems)
    if dataset.meta_info_file is not None and not _user_path(dataset.meta_info_file).is_file():
        problems.error(
            (*path, "meta_info_file"),
            f"datasets.{entry}.meta_info_file (={dataset.meta_info_file!r}) does not exist; "
            "leave it out to take every picture of the folder, or make one with `hriusr prepare`",
        )


def _check_root(entry: str, key: str, dataset: DatasetOptions, problems: Problems) -> None:
    root = getattr(dataset, key)
    if root is None:
        return
    path = ("datasets", entry, key)
    is_lmdb = dataset.io_backend.type == "lmdb"
    if is_lmdb != root.rstrip("/").endswith(".lmdb"):
        wanted = "a folder X.lmdb" if is_lmdb else "a folder of pictures (for a database: io_backend: {type: lmdb})"
        problems.error(path, f"datasets.{entry}.{key} (={root!r}): io_backend {dataset.io_backend.type} wants {wanted}")
    elif not _user_path(root).is_dir():
        problems.error(
            path,
            f"datasets.{entry}.{key} (={root!r}) does not exist in {Path.cwd()}; "
            f"datasets/README.md tells how to get the sets{_how_to_leave_out(entry)}",
        )


def _how_to_leave_out(entry: str) -> str:
    return "" if phase_of(entry) == "train" else f", --force_yml datasets:{entry}=~ leaves this one out"


def _check_weights(options: Options, problems: Problems, is_train: bool) -> None:
    for key in ("pretrain_network_g", "pretrain_network_d") if is_train else ("pretrain_network_g",):
        file = getattr(options.path, key)
        if file is not None and not _user_path(file).is_file():
            problems.error(("path", key), f"path.{key} (={file!r}) does not exist")
    state = options.path.resume_state
    if is_train and state not in (None, "auto", "new") and not _user_path(state).is_file():
        # no error: keep_checkpoints may have dropped it, and then the run goes on from a later one
        problems.warn(
            ("path", "resume_state"),
            f"path.resume_state (={state!r}) does not exist: the run must have a checkpoint of its own to go on from",
        )


def _check_validation(options: Options, problems: Problems, is_train: bool) -> None:
    entries = [entry for entry in options.datasets if is_used(entry, is_train) and phase_of(entry) != "train"]
    if is_train and options.val is None and entries:
        problems.warn(("datasets", entries[0]), f"{', '.join(entries)} not used: there is no section val")
    if is_train and options.val is not None and not entries and not _unset_by_command_line(problems):
        problems.warn(("val",), "val has no effect: datasets has no entry val")
    if options.val is None or not options.val.metrics:
        return
    _check_best_metric(options, entries, problems, is_train)
    published = (0, "0 at scale 1") if options.scale == 1 else (options.scale, "the scale")
    for label, metric in options.val.metrics.items():
        if metric.type in ("calculate_psnr", "calculate_ssim") and metric.crop_border != published[0]:
            problems.warn(
                ("val", "metrics", label, "crop_border"),
                f"val.metrics.{label}.crop_border (={metric.crop_border}) differs from scale (={options.scale}): "
                f"published numbers cut off {published[1]}",
            )


def _unset_by_command_line(problems: Problems) -> bool:
    """Whether --force_yml datasets:val=~ took a validation set away."""
    return any(
        path[0] == "datasets" and phase_of(path[1]) == "val" and location.source.startswith("--force_yml")
        for path, location in problems.document.locations.items()
        if len(path) == 2
    )


def _check_best_metric(options: Options, entries: list[str], problems: Problems, is_train: bool) -> None:
    wanted = options.val.best_metric
    if wanted is None or not is_train:
        return
    names = [options.datasets[entry].name for entry in entries]
    known = [*options.val.metrics, *(f"{name}/{label}" for name in names for label in options.val.metrics)]
    if wanted not in known:
        problems.error(("val", "best_metric"), f"val.best_metric (={wanted!r}) is none of {', '.join(known)}")


def _check_tile(options: Options, problems: Problems) -> None:
    if options.tile and options.tile.tile_pad >= options.tile.tile_size:
        problems.warn(
            ("tile",),
            f"tile.tile_pad (={options.tile.tile_pad}) is not below tile_size (={options.tile.tile_size}): "
            "most of the work goes into overlaps",
        )


def _check_patches(options: Options, problems: Problems) -> None:
    dataset = options.datasets.get("train")
    if dataset is None:
        return
    if dataset.gt_size is None and dataset.type == DEGRADING_DATASET:
        dataset.gt_size = options.gt_size
    if dataset.gt_size is None:
        problems.error(
            ("datasets", "train", "gt_size"), "datasets.train.gt_size is missing: the side of the training patch"
        )
    elif dataset.gt_size % options.scale:
        lower = dataset.gt_size - dataset.gt_size % options.scale
        problems.error(
            ("datasets", "train", "gt_size"),
            f"datasets.train.gt_size (={dataset.gt_size}) is no multiple of scale (={options.scale}); "
            f"take {lower or options.scale} or {lower + options.scale}",
        )
    _check_progressive(options, dataset, problems)
    if dataset.batch_size_per_gpu is None:
        problems.error(
            ("datasets", "train", "batch_size_per_gpu"),
            "datasets.train.batch_size_per_gpu is missing: patches a step and GPU",
        )


def _check_progressive(options: Options, dataset: DatasetOptions, problems: Problems) -> None:
    path, stages = ("datasets", "train", "progressive"), dataset.progressive or []
    starts = [stage.iter for stage in stages]
    if sorted(set(starts)) != starts:
        problems.error(path, f"datasets.train.progressive: iter (={starts}) must ascend")
    if options.train is not None and starts and max(starts) >= options.train.total_iter:
        problems.warn(path, f"datasets.train.progressive reaches beyond train.total_iter (={options.train.total_iter})")
    for stage in stages:
        if stage.gt_size is not None and stage.gt_size % options.scale:
            problems.error(
                path,
                f"datasets.train.progressive: gt_size (={stage.gt_size}) is no multiple of scale (={options.scale})",
            )


def _user_path(text: str) -> Path:
    return Path(text).expanduser()
