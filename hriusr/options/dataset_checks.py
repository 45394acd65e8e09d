"""Keys of a dataset that its type does not read, or that contradict each other there."""

from typing import Any

from hriusr.options.data_schema import DatasetOptions
from hriusr.options.degradation_schema import DEGRADING_DATASET
from hriusr.options.problems import Problems

_ALWAYS_ENLARGING = "ImageNetPairedDataset"
_SINGLE = "SingleImageDataset"
_REFUSED = ("color", "mean", "std", "filename_tmpl")  # of RealESRGANDataset: they would change what is learned


def check_dataset(entry: str, dataset: DatasetOptions, problems: Problems) -> None:
    """Refuse keys whose neglect would change the training, warn of others without effect.

    Args:
        entry: key under datasets.
        dataset: its options.
        problems: where to note what is wrong.
    """
    if dataset.type == DEGRADING_DATASET:
        for key in filter(lambda key: _asks(key, getattr(dataset, key)), _REFUSED):
            problems.error(
                ("datasets", entry, key),
                f"datasets.{entry}.{key} (={getattr(dataset, key)!r}) has no effect: {DEGRADING_DATASET} gives RGB in "
                "0..1 and has no lq; leave it out",
            )
    elif dataset.type not in (_SINGLE, _ALWAYS_ENLARGING) and dataset.enlarge_small and dataset.dataroot_lq is not None:
        problems.error(
            ("datasets", entry, "enlarge_small"),
            f"datasets.{entry}.enlarge_small does not reach the files of dataroot_lq (={dataset.dataroot_lq!r}): leave "
            "dataroot_lq out, so that lq is made from gt, or take skip_small: true instead",
        )
    for key, reason in _without_effect(dataset).items():
        if _asks(key, getattr(dataset, key)):
            problems.warn(("datasets", entry, key), f"datasets.{entry}.{key} is ignored: {reason}")


def _without_effect(dataset: DatasetOptions) -> dict[str, str]:
    """Return key -> why this dataset does not look at it."""
    reasons = {}
    if dataset.meta_info_file is not None:
        reasons["recursive"] = "meta_info_file names the pictures"
    if dataset.io_backend.type == "lmdb":
        reasons["recursive"] = "a database has no folders"
        if dataset.type in (_SINGLE, DEGRADING_DATASET):
            reasons["meta_info_file"] = "the database has a list of its own"
    if dataset.type == _SINGLE:
        reasons |= dict.fromkeys(("filename_tmpl", "skip_small", "enlarge_small"), f"{_SINGLE} has no gt")
    elif dataset.enlarge_small or dataset.type == _ALWAYS_ENLARGING:
        reasons["skip_small"] = "small pictures are enlarged"
    return reasons


def _asks(key: str, value: Any) -> bool:
    """Tell whether a value asks for something that is not done without it."""
    if key in ("mean", "std"):
        return value is not None and any(number != (key == "std") for number in value)
    return value not in (None, False, "n", "{}")
