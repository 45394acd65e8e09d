"""Options that all picture datasets read alike: where the bytes come from, which channels, which range."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hriusr.data.image_io import image_to_tensor, read_image, read_image_bytes
from hriusr.data.lmdb_store import lmdb_get
from hriusr.data.transforms import luma, normalise
from hriusr.errors import DataError


def uses_lmdb(opt: Mapping[str, Any]) -> bool:
    """Tell whether a dataset's io_backend is lmdb.

    Args:
        opt: options of the dataset; without io_backend it reads from disk.

    Raises:
        DataError: the backend is neither disk nor lmdb.
    """
    backend = (opt.get("io_backend") or {}).get("type", "disk")
    if backend not in ("disk", "lmdb"):
        raise DataError(f"io_backend type (={backend}) of dataset {opt.get('name')} is not supported: use disk or lmdb")
    return backend == "lmdb"


def picture_reader(opt: Mapping[str, Any], root: str | None) -> Callable[[str], np.ndarray]:
    """Return the function that reads a picture by its path, or by its key in the database `root`."""
    return partial(_read_from_lmdb, root) if uses_lmdb(opt) else read_image


def _read_from_lmdb(database: str, key: str) -> np.ndarray:
    return read_image_bytes(lmdb_get(database, key), f"{database}:{key}")


@dataclass(frozen=True)
class ChannelOptions:
    """How a picture becomes a tensor.

    Attributes:
        is_luma: Y of YCbCr alone (color: y).
        mean: subtracted, a number a channel; None: nothing is.
        std: divided by, a number a channel; None: nothing is.
    """

    is_luma: bool
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @classmethod
    def from_options(cls, opt: Mapping[str, Any]) -> "ChannelOptions":
        """Read color, mean and std from a dataset's options.

        Raises:
            DataError: mean or std has not one number a channel, or std holds a 0.
        """
        is_luma = opt.get("color") == "y"
        num_channels = 1 if is_luma else 3
        for key in ("mean", "std"):
            if opt.get(key) is not None and len(opt[key]) != num_channels:
                raise DataError(f"{key} (={opt[key]}) of dataset {opt.get('name')} must have {num_channels} numbers")
        if opt.get("std") is not None and 0 in opt["std"]:
            raise DataError(f"std (={opt['std']}) of dataset {opt.get('name')} must not hold 0: use 1 for no change")
        mean, std = (None if opt.get(key) is None else tuple(opt[key]) for key in ("mean", "std"))
        return cls(is_luma, mean, std)

    def to_tensor(self, image_HWC: np.ndarray) -> torch.Tensor:
        """Turn a picture into what a network is fed.

        Args:
            image_HWC: RGB, uint8 or uint16.

        Returns:
            (3, H, W) or (1, H, W) float32, 0..1 before mean and std.
        """
        image_CHW = image_to_tensor(luma(image_HWC) if self.is_luma else image_HWC)
        if self.mean is None and self.std is None:
            return image_CHW
        num_channels = image_CHW.shape[0]
        return normalise(image_CHW, self.mean or (0.0,) * num_channels, self.std or (1.0,) * num_channels)
