"""Pairs of a low-resolution picture and its ground truth; takes BasicSR's name PairedImageDataset and its option keys.

Ours beside BasicSR's: lq_on_the_fly (lq from gt by MATLAB's bicubic; implied without dataroot_lq), noise or JPEG on lq,
cache, and items asked for by SampleKey, whose crop, flips and noise then come from (seed, position) alone.

Letters: H W C height, width, channels; lq the low-resolution picture, gt the ground truth, scale times as large.
"""

import logging
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hriusr.basicsr_bridge import DATASET_REGISTRY, replace_in
from hriusr.data.dataset_options import ChannelOptions, picture_reader, uses_lmdb, without_small
from hriusr.data.lq_degradation import LqDegradation
from hriusr.data.matlab_resize import downsample
from hriusr.data.picture_cache import build_cache
from hriusr.data.picture_paths import PicturePair, paired_keys, paired_paths
from hriusr.data.sampler import SampleKey
from hriusr.data.transforms import Window, augment, choose_corner, crop_to_multiple, cut, enlarge_to
from hriusr.errors import DataError

logger = logging.getLogger(__name__)

_MOST_SURPLUS = 12  # benchmarks crop to multiples of 2, 3, 4 or 12


def most_surplus(scale: int, *, is_training: bool) -> int:
    """Return how many rows or columns a gt may have more than lq * scale; they are cut off at the bottom and right.

    In training as many as a multiple of scale may lack, which making lq by MATLAB's modcrop leaves over; in validation
    and testing also what benchmarks crop.
    """
    return scale - 1 if is_training else max(scale - 1, _MOST_SURPLUS)


@replace_in(DATASET_REGISTRY, "PairedImageDataset")
class PairedImageDataset(Dataset):
    """Items {lq, gt: CHW RGB float32 in 0..1 (before mean and std), lq_path, gt_path}.

    In phase train an item is a random patch; else the whole pictures. What gt has beyond lq * scale is cut off first
    (see most_surplus). Where lq is compressed, a training item has lq_clean too: lq as it was before.

    Args:
        opt: dataroot_gt; dataroot_lq, or none; scale; phase (train, val, test); in phase train gt_size, use_hflip,
            use_rot; optionally name, io_backend {type: disk | lmdb}, meta_info_file, filename_tmpl, color (y, grey),
            mean, std, lq_on_the_fly, lq_noise, lq_jpeg_quality (see lq_degradation.py), cache (none, memory, disk),
            recursive (also pictures of the folders below dataroot_gt), enlarge_small (small gt are enlarged to gt_size,
            as HAT does with ImageNet; not beside dataroot_lq), skip_small (in training they are left out; of files,
            not of lmdb).

    Raises:
        DataError: a folder, file, database or partner is missing, or an option does not fit; the message says remedy.
    """

    def __init__(self, opt: Mapping[str, Any]):
        self.opt = opt
        self.scale = int(opt["scale"])
        self.is_training = opt["phase"] == "train"
        self.gt_size = int(opt["gt_size"]) if self.is_training and opt.get("gt_size") else None
        self.enlarge_small = bool(opt.get("enlarge_small", False))
        self.channels = ChannelOptions.from_options(opt)
        self.degradation = LqDegradation.from_options(opt)
        self.lq_folder = None if opt.get("lq_on_the_fly") else opt.get("dataroot_lq")
        self._refuse_options()
        self.pairs = self._find_pairs()
        if self.is_training and opt.get("skip_small") and not self.enlarge_small:
            self.pairs = without_small(self.pairs, lambda pair: pair.gt, opt, "gt_size", max(self._patch_sizes()))
        self._read_gt = picture_reader(opt, opt["dataroot_gt"])
        self._read_lq = picture_reader(opt, self.lq_folder)
        self.cache = build_cache(opt, self._load_whole, len(self.pairs), self.name)

    @property
    def name(self) -> str:
        """What messages call this dataset."""
        return self.opt.get("name") or self.opt["dataroot_gt"]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | SampleKey) -> dict[str, torch.Tensor | str]:
        if not isinstance(key, SampleKey):  # BasicSR's own loader: it seeds the module `random` in each worker
            key = SampleKey(int(key), random.getrandbits(62))
        if self.is_training:
            generator = key.generator()
            images = self._cut_patches(key.index, key.gt_size or self.gt_size, generator)
            switches = {name: self.opt.get(name, True) for name in ("use_hflip", "use_rot")}
            gt_HWC, lq_HWC, *clean = augment(images, generator, **switches)
        else:
            gt_HWC, whole_HWC = self.cache[key.index] if self.cache else self._load_whole(key.index)
            size = whole_HWC.shape[:2]
            lq_HWC, *_ = self._degraded(partial(cut, whole_HWC), Window(0, 0, *size), size)
            clean = []
        shape = (*lq_HWC.shape[:2], self.channels.num_channels)
        clean_CHW = {"lq_clean": self.channels.to_tensor(clean[0])} if clean else {}
        noise_HWC = self.degradation.noise(shape, key if self.is_training else None)
        pair = self.pairs[key.index]
        return {
            "lq": self.channels.to_tensor(lq_HWC, noise_HWC),
            "gt": self.channels.to_tensor(gt_HWC),
            **clean_CHW,
            "lq_path": pair.lq or pair.gt,
            "gt_path": pair.gt,
        }

    def preload(self, num_threads: int = 2) -> None:
        """Fill the cache, where the options ask for one; call it before loading processes are forked.

        Raises:
            DataError: a picture cannot be read, or they do not fit into memory.
        """
        if self.cache:
            self.cache.fill(num_threads)

    def _refuse_options(self) -> None:
        if not self.opt.get("dataroot_gt"):
            raise DataError(f"dataset {self.opt.get('name')} needs dataroot_gt: give the folder of the ground truth")
        if self.opt.get("lq_on_the_fly") and self.opt.get("dataroot_lq"):
            logger.warning("dataset %s: dataroot_lq is ignored because lq_on_the_fly is set", self.name)
        if self.enlarge_small and self.lq_folder:
            raise DataError(
                f"enlarge_small of dataset {self.name} does not reach the files of dataroot_lq: leave dataroot_lq out, "
                "so that lq is made from gt, or take skip_small: true instead"
            )
        if self.is_training and not self.gt_size:
            raise DataError(f"dataset {self.name} needs gt_size: give the side of the training patch, such as 128")
        for gt_size in (size for size in self._patch_sizes() if size % self.scale):
            nearest = gt_size - gt_size % self.scale or self.scale
            raise DataError(
                f"gt_size (={gt_size}) of dataset {self.name} must be a multiple of scale (={self.scale}): "
                f"set gt_size: {nearest}"
            )

    def _patch_sizes(self) -> list[int]:
        """Return every side that a patch may have; none but in training."""
        stages = self.opt.get("progressive") or () if self.is_training else ()
        sizes = [self.gt_size, *(stage.get("gt_size") for stage in stages)]
        return [int(size) for size in sizes if size]

    def _find_pairs(self) -> list[PicturePair]:
        if not uses_lmdb(self.opt):
            template = self.opt.get("filename_tmpl") or "{}"
            return paired_paths(
                self.opt["dataroot_gt"],
                self.lq_folder,
                self.opt.get("meta_info_file"),
                template,
                recursive=bool(self.opt.get("recursive")),
            )
        for key in ("meta_info_file", "filename_tmpl"):
            if self.opt.get(key) not in (None, "{}"):
                logger.warning("dataset %s: %s is ignored with io_backend lmdb", self.name, key)
        return paired_keys(self.opt["dataroot_gt"], self.lq_folder)

    def _load_gt(self, pair: PicturePair) -> np.ndarray:
        """Read a ground truth; one that lq is to be made from is cropped to a multiple of the scale."""
        gt_HWC = self._read_gt(pair.gt)
        if pair.lq is not None:
            return gt_HWC
        gt_HWC = crop_to_multiple(gt_HWC, self.scale)
        if 0 in gt_HWC.shape:
            raise DataError(f"{pair.gt} is smaller than scale (={self.scale}): take it out of the folder")
        return enlarge_to(gt_HWC, max(self._patch_sizes(), default=0)) if self.enlarge_small else gt_HWC

    def _load_whole(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Read or make both pictures; gt comes out exactly scale times as large as lq."""
        pair = self.pairs[item]
        gt_HWC = self._load_gt(pair)
        if pair.lq is None:
            return np.ascontiguousarray(gt_HWC), downsample(gt_HWC, self.scale)
        lq_HWC = self._read_lq(pair.lq)
        height, width = lq_HWC.shape[0] * self.scale, lq_HWC.shape[1] * self.scale
        surplus = gt_HWC.shape[0] - height, gt_HWC.shape[1] - width
        if min(surplus) < 0 or max(surplus) > most_surplus(self.scale, is_training=self.is_training):
            raise DataError(
                f"gt {pair.gt} ({gt_HWC.shape[1]}x{gt_HWC.shape[0]}) is not {self.scale} times as large as "
                f"lq {pair.lq} ({lq_HWC.shape[1]}x{lq_HWC.shape[0]}): check scale and dataroot_lq, "
                "or make lq again with `hriusr prepare bicubic`"
            )
        return gt_HWC[:height, :width], lq_HWC

    def _cut_patches(self, item: int, gt_size: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Cut random patches of gt and, see _degraded, lq. Without a cache, lq is made for the patch alone, exactly."""
        pair, patch = self.pairs[item], gt_size // self.scale
        if self.cache or pair.lq is not None:
            gt_HWC, whole_HWC = self.cache[item] if self.cache else self._load_whole(item)
            lq_of = partial(cut, whole_HWC)
        else:
            gt_HWC = self._load_gt(pair)
            lq_of = partial(downsample, gt_HWC, self.scale)
        if min(gt_HWC.shape[:2]) < gt_size:
            raise DataError(
                f"{pair.gt} ({gt_HWC.shape[1]}x{gt_HWC.shape[0]}) is smaller than gt_size (={gt_size}): "
                "set skip_small: true to leave such pictures out, or lower gt_size"
            )
        lq_size = gt_HWC.shape[0] // self.scale, gt_HWC.shape[1] // self.scale
        window = Window(*choose_corner(lq_size, patch, generator), patch, patch)
        return [cut(gt_HWC, window.scaled(self.scale)), *self._degraded(lq_of, window, lq_size)]

    def _degraded(
        self, lq_of: Callable[[Window], np.ndarray], window: Window, lq_size: tuple[int, int]
    ) -> list[np.ndarray]:
        """Return a window of lq; where it is compressed, then also as it was before."""
        if self.degradation.jpeg_quality is None:
            return [lq_of(window)]

        def selected(place: Window) -> np.ndarray:
            return self.channels.select(lq_of(place))

        return [self.degradation.compress(selected, window, lq_size), lq_of(window)]
