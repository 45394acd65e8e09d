"""HAT's name for training on ImageNet: a folder a class, lq made from gt, small pictures enlarged to the patch.

From XPixelGroup/HAT, hat/data/imagenet_paired_dataset.py; its option files name the same folder as gt and lq. There
the whole picture is shrunk, by BasicSR's imresize without MATLAB's rounding in between, and then cut. Here the pixels
under the kernel's taps are cut first, 1.5 * scale beside each edge of the patch (at x3: 4), none beyond the border of
the picture, which the kernel sees mirrored; the patch equals, to the bit, that of the whole picture shrunk by MATLAB.
"""

from collections.abc import Mapping
from typing import Any

from hriusr.basicsr_bridge import DATASET_REGISTRY, replace_in
from hriusr.data.paired_image_dataset import PairedImageDataset


@replace_in(DATASET_REGISTRY, "ImageNetPairedDataset")
def make_imagenet_dataset(opt: Mapping[str, Any]) -> PairedImageDataset:
    """Build the dataset.

    Args:
        opt: as PairedImageDataset; dataroot_lq, enlarge_small and recursive are not looked at.
    """
    return PairedImageDataset(
        {**opt, "dataroot_lq": None, "lq_on_the_fly": True, "enlarge_small": True, "recursive": True}
    )
