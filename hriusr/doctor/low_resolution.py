"""How was this LR picture made from its ground truth? Compare it with what known ways of shrinking give.

Nothing costs more and is noticed later: LR from another kernel, from another picture, shifted by a pixel, with red and
blue exchanged, compressed. The benchmark's way is MATLAB's bicubic (data/matlab_resize.py), reproduced to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from hriusr.data.matlab_resize import downsample

EXACT = 70.0  # dB: above, the two differ by roundings at most
ALIKE = 40.0  # dB: above, LR was made by this way, give or take a compression
RELATED = 22.0  # dB: below, it is not the same picture, or not in the same place
_LARGEST_CROP = 160  # LR pixels a side that are compared
_LEAST_GAIN = 3.0  # dB by which another explanation must be better

_MATLAB = "MATLAB's bicubic"


@dataclass(frozen=True)
class Match:
    """What an LR picture seems to be.

    Attributes:
        bicubic_psnr: against MATLAB's bicubic of the ground truth, dB over RGB; 100 where they are equal.
        kernel: the way of shrinking that fits best.
        kernel_psnr: how well, dB.
        shift: rows and columns, LR pixels, by which LR lies off; (0, 0) where it does not.
        is_swapped: red and blue are exchanged.
    """

    bicubic_psnr: float
    kernel: str
    kernel_psnr: float
    shift: tuple[float, float] = (0.0, 0.0)
    is_swapped: bool = False


def match_low_resolution(gt_HWC: np.ndarray, lq_HWC: np.ndarray, scale: int) -> Match:
    """Find out how lq was made.

    Args:
        gt_HWC: RGB, uint8 or uint16, exactly scale times as large as lq.
        lq_HWC: RGB, the same type.
        scale: 1, 2, 3 ...
    """
    gt, lq = _middle(gt_HWC, lq_HWC, scale)
    bicubic = downsample(gt, scale)
    edge = 4 if min(lq.shape[:2]) > 16 else 0  # the crop's border was no border in the picture
    psnr = _psnr(bicubic, lq, edge)
    if psnr >= EXACT or scale == 1:
        return Match(psnr, _MATLAB, psnr)
    made = {name: _psnr(shrink(gt, scale), lq, edge) for name, shrink in _KERNELS.items()}
    kernel = max(made, key=made.get)
    if made[kernel] < psnr + 0.5:
        kernel = _MATLAB
    best = max(psnr, made.get(kernel, 0))
    swapped = _psnr(bicubic, lq[..., ::-1], edge)
    if swapped > best + _LEAST_GAIN:
        return Match(psnr, _MATLAB, swapped, is_swapped=True)
    shift, shifted = _find_shift(bicubic, lq, edge)
    if best < ALIKE and shifted > best + _LEAST_GAIN:
        return Match(psnr, _MATLAB, shifted, shift=shift)
    return Match(psnr, kernel, best)


def _middle(gt_HWC: np.ndarray, lq_HWC: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the same part out of the middle of both, at most _LARGEST_CROP a side."""
    height, width = (min(_LARGEST_CROP, side) for side in lq_HWC.shape[:2])
    top, left = (lq_HWC.shape[0] - height) // 2, (lq_HWC.shape[1] - width) // 2
    gt = gt_HWC[top * scale : (top + height) * scale, left * scale : (left + width) * scale]
    return np.ascontiguousarray(gt), np.ascontiguousarray(lq_HWC[top : top + height, left : left + width])


def _psnr(first: np.ndarray, second: np.ndarray, edge: int) -> float:
    """Return dB over RGB without `edge` pixels a side; 100 where both are equal."""
    inside = slice(edge, -edge or None)
    difference = first[inside, inside].astype(np.float64) - second[inside, inside]
    error = np.mean(difference**2) / np.iinfo(first.dtype).max ** 2
    return 100.0 if error == 0 else min(100.0, float(-10 * np.log10(error)))


def _find_shift(bicubic: np.ndarray, lq: np.ndarray, edge: int) -> tuple[tuple[float, float], float]:
    """Return by how much lq lies off, in LR pixels, and the dB when that is taken back."""
    lumas = [image.astype(np.float32).mean(axis=2) for image in (bicubic, lq)]
    window = cv2.createHanningWindow(lumas[0].shape[::-1], cv2.CV_32F)
    (right, down), _ = cv2.phaseCorrelate(*lumas, window)
    best, best_psnr = (0.0, 0.0), 0.0
    # whole and half pixels are what happens; the measured value is off by some hundredths
    for step in (0.5, 0.25):
        down_by, right_by = (round(value / step) * step for value in (down, right))
        matrix = np.float32([[1, 0, right_by], [0, 1, down_by]])
        moved = cv2.warpAffine(bicubic, matrix, bicubic.shape[1::-1], flags=cv2.INTER_CUBIC)
        edge_now = edge + int(max(abs(down_by), abs(right_by))) + 1
        if 2 * edge_now + 8 > min(lq.shape[:2]):
            continue
        psnr = _psnr(moved, lq, edge_now)
        if psnr > best_psnr:
            best, best_psnr = (down_by, right_by), psnr
    return best, best_psnr


def _cv2(interpolation: int) -> Callable[[np.ndarray, int], np.ndarray]:
    def shrink(gt: np.ndarray, scale: int) -> np.ndarray:
        size = gt.shape[1] // scale, gt.shape[0] // scale
        return cv2.resize(gt, size, interpolation=interpolation)

    return shrink


def _pillow(resample: Image.Resampling) -> Callable[[np.ndarray, int], np.ndarray]:
    def shrink(gt: np.ndarray, scale: int) -> np.ndarray:
        if gt.dtype != np.uint8:
            return np.zeros_like(gt[: gt.shape[0] // scale, : gt.shape[1] // scale])
        return np.asarray(Image.fromarray(gt).resize((gt.shape[1] // scale, gt.shape[0] // scale), resample))

    return shrink


def _jpeg_of_bicubic(gt: np.ndarray, scale: int) -> np.ndarray:
    bicubic = downsample(gt, scale)
    if gt.dtype != np.uint8:
        return bicubic
    _, content = cv2.imencode(".jpg", bicubic[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    return cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]


def _blurred(gt: np.ndarray, scale: int) -> np.ndarray:
    return np.ascontiguousarray(cv2.GaussianBlur(gt, (0, 0), 1.6)[scale // 2 :: scale, scale // 2 :: scale])


_KERNELS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "OpenCV's bicubic, without antialiasing": _cv2(cv2.INTER_CUBIC),
    "OpenCV's bilinear, without antialiasing": _cv2(cv2.INTER_LINEAR),
    "the mean of each block (OpenCV's area)": _cv2(cv2.INTER_AREA),
    "every n-th pixel (nearest)": _cv2(cv2.INTER_NEAREST),
    "Pillow's bicubic": _pillow(Image.Resampling.BICUBIC),
    "Pillow's bilinear, antialiased": _pillow(Image.Resampling.BILINEAR),
    "Pillow's Lanczos": _pillow(Image.Resampling.LANCZOS),
    "a Gaussian blur (sigma 1.6), then every n-th pixel": _blurred,
    "MATLAB's bicubic, then JPEG": _jpeg_of_bicubic,
}
