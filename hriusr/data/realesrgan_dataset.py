"""Sharp pictures with the blur kernels that are to spoil them; takes BasicSR's name RealESRGANDataset and its keys.

The low-resolution picture is made by the model, on its device (hriusr/data/degradations). Unlike BasicSR's:
meta_info_file is read (there it is meta_info), without it every picture of the folder is taken; a picture that cannot
be read ends the run with its name; all draws follow from (seed, position).

Letters: H W C height, width, channels; K side of a kernel.
"""

import random
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from hriusr.basicsr_bridge import DATASET_REGISTRY, replace_in
from hriusr.data.dataset_options import ChannelOptions, picture_reader, uses_lmdb, without_small
from hriusr.data.degradations.draws import SampleOrigin, kernel_generator
from hriusr.data.degradations.kernels import draw_kernels
from hriusr.data.degradations.settings import KernelSettings
from hriusr.data.image_io import image_to_tensor
from hriusr.data.lmdb_store import lmdb_keys
from hriusr.data.picture_cache import build_cache
from hriusr.data.picture_paths import single_paths
from hriusr.data.sampler import SampleKey
from hriusr.data.transforms import augment, enlarge_to
from hriusr.errors import DataError

_CROP_SIZE = 400  # Real-ESRGAN's: what is degraded, larger than the patch so that its border is not seen


@replace_in(DATASET_REGISTRY, "RealESRGANDataset")
class RealESRGANDataset(Dataset):
    """Items {gt: (3, S, S) RGB float32 in 0..1; kernel1, kernel2, sinc_kernel: (K, K); sample; gt_path}.

    Args:
        opt: dataroot_gt; scale; phase, which must be train; optionally name, io_backend {type: disk | lmdb},
            meta_info_file, recursive, cache (none, memory, disk), use_hflip, use_rot, crop_pad_size (S, default 400),
            skip_small, enlarge_small (pictures smaller than S are left out, or enlarged; else they are continued by
            reflection), and the keys of KernelSettings.

    Raises:
        DataError: a folder, file or database is missing, or an option does not fit; the message says remedy.
    """

    def __init__(self, opt: Mapping[str, Any]):
        self.opt = opt
        self.name = opt.get("name") or opt.get("dataroot_gt")
        if not opt.get("dataroot_gt"):
            raise DataError(f"dataset {self.name} needs dataroot_gt: give the folder of sharp pictures")
        if opt["phase"] != "train":
            raise DataError(f"dataset {self.name}: RealESRGANDataset is for training; validate on a PairedImageDataset")
        self.side = int(opt.get("crop_pad_size") or _CROP_SIZE)
        if self.side % int(opt["scale"]) or self.side < (opt.get("gt_size") or 0):
            raise DataError(
                f"crop_pad_size (={self.side}) of dataset {self.name} must be a multiple of scale (={opt['scale']}) "
                f"and at least gt_size (={opt.get('gt_size')})"
            )
        self._refuse_what_has_no_effect()
        folder, is_recursive = opt["dataroot_gt"], bool(opt.get("recursive"))
        self.paths = (
            lmdb_keys(folder)
            if uses_lmdb(opt)
            else single_paths(folder, opt.get("meta_info_file"), recursive=is_recursive)
        )
        self.enlarge_small = bool(opt.get("enlarge_small"))
        if opt.get("skip_small") and not self.enlarge_small:
            self.paths = without_small(self.paths, str, opt, "crop_pad_size", self.side)
        self.kernels = KernelSettings.from_options(opt)
        self._read = picture_reader(opt, folder)
        self.cache = build_cache(opt, self._load, len(self.paths), self.name)

    def _refuse_what_has_no_effect(self) -> None:
        channels = ChannelOptions.from_options(self.opt)
        if channels.colour != "rgb" or any(channels.mean or ()) or {*(channels.std or ())} - {1}:
            raise DataError(f"dataset {self.name}: RealESRGANDataset gives RGB in 0..1: leave color, mean and std out")
        if self.opt.get("filename_tmpl", "{}") != "{}":
            raise DataError(f"dataset {self.name}: RealESRGANDataset has no lq to name: leave filename_tmpl out")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        if not isinstance(key, SampleKey):  # BasicSR's own loader: it seeds the module `random` in each worker
            key = SampleKey(int(key), random.getrandbits(62))
        generator = key.generator()
        (gt_HWC,) = self.cache[key.index] if self.cache else self._load(key.index)
        switches = {name: self.opt.get(name, True) for name in ("use_hflip", "use_rot")}
        (gt_HWC,) = augment([gt_HWC], generator, **switches)
        gt_HWC = _crop_or_pad(gt_HWC, self.side, generator)
        kernels = draw_kernels(self.kernels, kernel_generator(key.seed, key.position))
        kernel1, kernel2, sinc_kernel = map(torch.from_numpy, kernels)
        return {
            "gt": image_to_tensor(gt_HWC),
            "kernel1": kernel1,
            "kernel2": kernel2,
            "sinc_kernel": sinc_kernel,
            "sample": SampleOrigin(key.seed, key.position),
            "gt_path": self.paths[key.index],
        }

    def preload(self, num_threads: int = 2) -> None:
        """Fill the cache, where the options ask for one; call it before loading processes are forked."""
        if self.cache:
            self.cache.fill(num_threads)

    def _load(self, item: int) -> tuple[np.ndarray]:
        gt_HWC = self._read(self.paths[item])
        return (enlarge_to(gt_HWC, self.side) if self.enlarge_small else gt_HWC,)


def _crop_or_pad(image_HWC: np.ndarray, side: int, generator: np.random.Generator) -> np.ndarray:
    """Cut a random square; a picture that is too small is continued by reflection, below and right."""
    below, right = (max(0, side - length) for length in image_HWC.shape[:2])
    if below or right:
        image_HWC = cv2.copyMakeBorder(np.ascontiguousarray(image_HWC), 0, below, 0, right, cv2.BORDER_REFLECT_101)
    height, width = image_HWC.shape[:2]
    top, left = generator.integers(0, [height - side + 1, width - side + 1])
    return image_HWC[top : top + side, left : left + side]
