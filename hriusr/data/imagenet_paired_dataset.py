"""HAT's name for training on ImageNet: lq made from gt, small pictures enlarged to the patch.

From XPixelGroup/HAT, hat/data/imagenet_paired_dataset.py; its option files name the same folder as gt and lq. There
the LR comes from BasicSR's imresize without MATLAB's rounding in between; here it is MATLAB's.
"""

from collections.abc import Mapping
from typing import Any

from hriusr.basicsr_bridge import DATASET_REGISTRY, replace_in
from hriusr.data.paired_image_dataset import PairedImageDataset


@replace_in(DATASET_REGISTRY, "ImageNetPairedDataset")
def make_imagenet_dataset(opt: Mapping[str, Any]) -> PairedImageDataset:
    """Build the dataset.

    Args:
        opt: as PairedImageDataset; dataroot_lq is not looked at.
    """
    return PairedImageDataset({**opt, "dataroot_lq": None, "lq_on_the_fly": True, "enlarge_small": True})
