"""Options that all picture datasets read alike: where the bytes come from, which channels, which range."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from hriusr.data.image_io import image_size, image_to_tensor, read_image, read_image_bytes
from hriusr.data.lmdb_store import lmdb_get
from hriusr.data.transforms import grey, luma, normalise
from hriusr.errors import DataError

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


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


def without_small(
    items: Sequence[Item], path_of: Callable[[Item], str], opt: Mapping[str, Any], key: str, side: int
) -> list[Item]:
    """Leave out pictures that are smaller than a patch, and say how many: skip_small.

    Args:
        items: of the dataset.
        path_of: the picture of an item.
        opt: options of the dataset.
        key: option that gives the patch its side, as messages call it.
        side: of the patch, pixels.

    Raises:
        DataError: the pictures are in a database, or all are too small.
    """
    name = opt.get("name") or opt["dataroot_gt"]
    if uses_lmdb(opt):
        raise DataError(f"skip_small of dataset {name} is for files: leave small pictures out of the database")
    kept = [item for item in items if min(image_size(path_of(item))) >= side]
    if not kept:
        raise DataError(f"all pictures of dataset {name} are smaller than {key} (={side}): lower {key}")
    if num_small := len(items) - len(kept):
        message = "dataset %s: %d of %d pictures are smaller than %s (=%d): left out"
        logger.warning(message, name, num_small, len(items), key, side)
    return kept


@dataclass(frozen=True)
class ChannelOptions:
    """How a picture becomes a tensor.

    Attributes:
        colour: "rgb", "y" (Y of YCbCr alone) or "grey" (OpenCV's grey): the key color.
        mean: subtracted, a number a channel; None: nothing is.
        std: divided by, a number a channel; None: nothing is.
    """

    colour: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @classmethod
    def from_options(cls, opt: Mapping[str, Any]) -> "ChannelOptions":
        """Read color, mean and std from a dataset's options.

        Raises:
            DataError: mean or std has not one number a channel, or std holds a 0.
        """
        colour = opt.get("color") if opt.get("color") in ("y", "grey") else "rgb"
        num_channels = 3 if colour == "rgb" else 1
        for key in ("mean", "std"):
            if opt.get(key) is not None and len(opt[key]) != num_channels:
                raise DataError(f"{key} (={opt[key]}) of dataset {opt.get('name')} must have {num_channels} numbers")
        if opt.get("std") is not None and 0 in opt["std"]:
            raise DataError(f"std (={opt['std']}) of dataset {opt.get('name')} must not hold 0: use 1 for no change")
        mean, std = (None if opt.get(key) is None else tuple(opt[key]) for key in ("mean", "std"))
        return cls(colour, mean, std)

    @property
    def num_channels(self) -> int:
        """Channels of the tensors."""
        return 3 if self.colour == "rgb" else 1

    def select(self, image_HWC: np.ndarray) -> np.ndarray:
        """Reduce RGB, uint8 or uint16, to the channel that is wanted, of the same type, rounded."""
        if self.colour == "y":
            levels = np.iinfo(image_HWC.dtype).max
            return np.round(luma(image_HWC) * levels).astype(image_HWC.dtype)
        return grey(image_HWC) if self.colour == "grey" else image_HWC

    def to_tensor(self, image_HWC: np.ndarray, noise_HWC: np.ndarray | None = None) -> torch.Tensor:
        """Turn a picture into what a network is fed.

        Args:
            image_HWC: RGB, or one channel that `select` has made; uint8 or uint16.
            noise_HWC: float32, for values 0..1, of the channels of the result; None: none.

        Returns:
            (3, H, W) or (1, H, W) float32, 0..1 before noise, mean and std. Y is not rounded, but where `select` did.
        """
        if image_HWC.shape[2] == 3 and self.colour != "rgb":
            image_HWC = luma(image_HWC) if self.colour == "y" else grey(image_HWC)
        image_CHW = image_to_tensor(image_HWC)
        if noise_HWC is not None:
            image_CHW += torch.from_numpy(np.ascontiguousarray(noise_HWC.transpose(2, 0, 1)))
        if self.mean is None and self.std is None:
            return image_CHW
        num_channels = image_CHW.shape[0]
        return normalise(image_CHW, self.mean or (0.0,) * num_channels, self.std or (1.0,) * num_channels)
