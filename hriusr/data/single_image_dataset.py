"""Low-resolution pictures alone, for upscaling without metrics; takes over BasicSR's name SingleImageDataset."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Dataset

from hriusr.basicsr_bridge import DATASET_REGISTRY, replace_in
from hriusr.data.dataset_options import ChannelOptions, picture_reader, uses_lmdb
from hriusr.data.lmdb_store import lmdb_keys
from hriusr.data.picture_cache import build_cache
from hriusr.data.picture_paths import single_paths
from hriusr.data.sampler import SampleKey
from hriusr.errors import DataError


@replace_in(DATASET_REGISTRY, "SingleImageDataset")
class SingleImageDataset(Dataset):
    """Items {lq: CHW RGB float32 in 0..1 (before mean and std), lq_path}.

    Args:
        opt: dataroot_lq; optionally name, io_backend {type: disk | lmdb}, meta_info_file, recursive, color (y,
            grey), mean, std, cache.

    Raises:
        DataError: the folder, list or database is missing or empty, or an option does not fit.
    """

    def __init__(self, opt: Mapping[str, Any]):
        self.opt = opt
        folder = opt.get("dataroot_lq")
        if not folder:
            raise DataError(f"dataset {opt.get('name')} needs dataroot_lq: give the folder of the pictures")
        self.channels = ChannelOptions.from_options(opt)
        self.paths = (
            lmdb_keys(folder)
            if uses_lmdb(opt)
            else single_paths(folder, opt.get("meta_info_file"), recursive=bool(opt.get("recursive")))
        )
        self._read = picture_reader(opt, folder)
        name = opt.get("name") or folder
        self.cache = build_cache(opt, self._load, len(self.paths), name)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | SampleKey) -> dict[str, torch.Tensor | str]:
        item = key.index if isinstance(key, SampleKey) else int(key)
        (image_HWC,) = self.cache[item] if self.cache else self._load(item)
        return {"lq": self.channels.to_tensor(image_HWC), "lq_path": self.paths[item]}

    def preload(self, num_threads: int = 2) -> None:
        """Fill the cache, where the options ask for one; call it before loading processes are forked."""
        if self.cache:
            self.cache.fill(num_threads)

    def _load(self, item: int) -> tuple:
        return (self._read(self.paths[item]),)
