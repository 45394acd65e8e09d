"""PSNR-B (Yim and Bovik, IEEE TIP 20(1), 2011): PSNR with a penalty for steps at the borders of JPEG's blocks.

A result's squared differences between neighbours are of two kinds: across the borders of blocks of 8x8, which begin at
the top left corner, and all others. SwinIR's script divides by the number of borders that a size of whole
blocks has; here the differences are counted, which is the same at such sizes.
"""

import math

import numpy as np

from hriusr.basicsr_bridge import METRIC_REGISTRY, replace_in
from hriusr.metrics.channels import crop_and_convert

_BLOCK_SIZE = 8


@replace_in(METRIC_REGISTRY, "calculate_psnrb")
def calculate_psnrb(
    img: np.ndarray,
    img2: np.ndarray,
    crop_border: int = 0,
    input_order: str = "HWC",
    test_y_channel: bool = False,
    better: str = "higher",
) -> float:
    """Calculate PSNR-B, the mean over channels.

    Args:
        img: the result, BGR (or one channel), range 0..255.
        img2: the ground truth, of the same shape.
        crop_border: pixels cut off each side; a multiple of 8, or blocks begin elsewhere.
        input_order: "HWC" or "CHW"; (H, W) is taken too.
        test_y_channel: measure Y of YCbCr (BT.601, 16..235) alone.
        better: for the record of best values; without effect here.

    Returns:
        dB; infinity for equal pictures without steps; NaN where there is no border of blocks.
    """
    image_HWC, reference_HWC = crop_and_convert(img, img2, crop_border, input_order, test_y_channel)
    if max(image_HWC.shape[:2]) <= _BLOCK_SIZE:
        return float("nan")
    channels = [_psnrb(image_HWC[..., c], reference_HWC[..., c]) for c in range(image_HWC.shape[2])]
    return float(np.mean(channels))


def _psnrb(image_HW: np.ndarray, reference_HW: np.ndarray) -> float:
    error = np.mean((image_HW - reference_HW) ** 2) + _blocking_effect(image_HW)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _blocking_effect(image_HW: np.ndarray) -> float:
    """Return by how much the mean squared step at borders exceeds that elsewhere, weighted by the size; 0 if not."""
    at_borders, elsewhere = [], []
    for steps in (np.diff(image_HW, axis=0), np.diff(image_HW, axis=1).T):
        is_border = np.arange(1, len(steps) + 1) % _BLOCK_SIZE == 0
        at_borders.append(steps[is_border].ravel())
        elsewhere.append(steps[~is_border].ravel())
    excess = np.mean(np.concatenate(at_borders) ** 2) - np.mean(np.concatenate(elsewhere) ** 2)
    return max(0.0, excess) * math.log2(_BLOCK_SIZE) / math.log2(max(2, min(image_HW.shape)))
