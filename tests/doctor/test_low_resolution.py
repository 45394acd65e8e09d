"""How an LR picture was made is recognised; pictures are made with the libraries themselves."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from hriusr.data.matlab_resize import downsample
from hriusr.doctor.low_resolution import match_low_resolution


def by_cv2(interpolation):
    return lambda gt, scale: cv2.resize(gt, None, fx=1 / scale, fy=1 / scale, interpolation=interpolation)


def by_pillow(resample):
    return lambda gt, scale: np.asarray(
        Image.fromarray(gt).reduce(1).resize([s // scale for s in gt.shape[1::-1]], resample)
    )


def by_torch(gt, scale):
    """Torch's antialiased bicubic has Pillow's a = -0.5 and rounds once."""
    gt_1CHW = torch.from_numpy(gt).permute(2, 0, 1)[None].float()
    size = [side // scale for side in gt.shape[:2]]
    lr = torch.nn.functional.interpolate(gt_1CHW, size, mode="bicubic", antialias=True)
    return lr[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("shrink", "words"),
    [
        (downsample, "MATLAB's bicubic"),
        (by_cv2(cv2.INTER_CUBIC), "OpenCV's bicubic"),
        (by_cv2(cv2.INTER_NEAREST), "nearest"),
        (by_pillow(Image.Resampling.LANCZOS), "Lanczos"),
        (by_pillow(Image.Resampling.BILINEAR), "Pillow's bilinear"),
        (by_torch, "bicubic"),
    ],
)
def test_kernel_is_recognised(photo, scale, shrink, words):
    gt = photo("astronaut")[48:288, 120:360]
    match = match_low_resolution(gt, shrink(gt, scale), scale)
    assert words in match.kernel
    assert match.kernel_psnr > 45
    assert (match.bicubic_psnr == 100) == (shrink is downsample)
    assert match.shift == (0, 0)
    assert not match.is_swapped


@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (2, 3), (-1, 1)])
def test_shift_is_measured(photo, shift):
    gt = photo("coffee")[40:360, 100:420]
    lq = np.roll(downsample(gt, 2), shift, axis=(0, 1))
    assert match_low_resolution(gt, lq, 2).shift == shift


def test_shift_by_one_pixel_of_the_ground_truth_is_half_a_pixel(photo):
    gt = photo("coffee")[40:360, 100:420]
    moved = photo("coffee")[39:359, 99:419]
    assert match_low_resolution(gt, downsample(moved, 2), 2).shift == (0.5, 0.5)
