"""Local attribution maps (LAM): which pixels of a picture a network used for one patch of its result.

Gu & Dong, Interpreting Super-Resolution Networks with Local Attribution Maps, CVPR 2021 (arXiv:2011.11036). Integrated
gradients of the detail D in the patch, along a path from the blurred picture I_0 to the sharp one I_m:

    sigma_k = sigma (1 - k/m)          I_k = Gaussian(sigma_k) * I, k = 0..m, borders mirrored (reflect-101)
    LAM     = mean over k = 1..m of  dD/dI_k . m (I_k - I_{k-1})

Summed over all pixels and channels that is D(I_m) - D(I_0), but for the error of taking the integral as a sum: its
completeness. Letters: H W C of the low-resolution picture; k m number of a step, number of steps.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from hriusr.analysis.input_gradient import explained, input_gradient, network_input
from hriusr.errors import DataError

_EPSILON = 1e-12  # below any step between grey values: keeps the square root's slope finite where all is flat
_NOTHING = 1e-9  # rounding; one grey value of 255 has a hundred thousand times as much
_LEAST_SIGMA = 1e-5  # of I_m: in effect no blur


class Window(NamedTuple):
    """A square of the network's result.

    Attributes:
        left: its first column.
        top: its first row.
        size: its side; the pixels right of it and below it are read too, for differences.
    """

    left: int
    top: int
    size: int


class Box(NamedTuple):
    """A rectangle of the low-resolution picture; first row and column, number of rows and columns."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return that part of a picture (H, W, ...), as a view."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class PathSettings:
    """The path's constants; the defaults are the authors'.

    Attributes:
        sigma: blur at the start, pixels.
        steps: m.
        kernel_size: side of the Gaussian, pixels, odd.
    """

    sigma: float = 1.2
    steps: int = 50
    kernel_size: int = 9

    def __post_init__(self) -> None:
        if not (0 < self.sigma < float("inf")) or self.steps < 1 or self.kernel_size < 3 or self.kernel_size % 2 == 0:
            raise ValueError(f"{self}: sigma must be positive, steps at least 1, kernel_size odd and at least 3")


@dataclass(frozen=True)
class LocalAttribution:
    """What a network used for one window.

    Attributes:
        signed_CHW: attribution of each value of the box, float64.
        sr_HWC: the network's result for the box, 0..1 but for over- and undershoot.
        box: the part of the picture that the network was shown.
        detail_blurred: D(I_0).
        detail_sharp: D(I_m).
    """

    signed_CHW: np.ndarray
    sr_HWC: np.ndarray
    box: Box
    detail_blurred: float
    detail_sharp: float

    @functools.cached_property
    def map(self) -> np.ndarray:
        """Return |sum over channels| / maximum: (H, W), 0..1."""
        magnitude_HW = np.abs(self.signed_CHW.sum(axis=0))
        return magnitude_HW / magnitude_HW.max()

    @property
    def completeness_error(self) -> float:
        """Return |sum of the attribution - (D(I_m) - D(I_0))| / |D(I_m) - D(I_0)|."""
        change = self.detail_sharp - self.detail_blurred
        return abs(float(self.signed_CHW.sum()) - change) / max(abs(change), 1e-30)


def detail(sr_BCHW: Tensor, window: Window) -> Tensor:
    """Compute D, the sum of the lengths of the colour gradients in a window.

    Args:
        sr_BCHW: a network's result.
        window: inside it, with one more row and column.

    Returns:
        A number.
    """
    left, top, size = window
    patch_BCHW = sr_BCHW[..., top : top + size + 1, left : left + size + 1]
    corner_BCHW = patch_BCHW[..., :-1, :-1]
    down_BCHW = corner_BCHW - patch_BCHW[..., 1:, :-1]
    right_BCHW = corner_BCHW - patch_BCHW[..., :-1, 1:]
    return (down_BCHW.square() + right_BCHW.square() + _EPSILON).sqrt().sum()


def gaussian_path(image_HWC: np.ndarray, box: Box, settings: PathSettings) -> Iterator[np.ndarray]:
    """Yield I_0 .. I_m of a part of a picture, as parts of the whole picture blurred.

    Args:
        image_HWC: the whole picture, floats.
        box: the part.
        settings: the path's constants.
    """
    radius = settings.kernel_size // 2
    top, left = max(box.top - radius, 0), max(box.left - radius, 0)
    around_HWC = image_HWC[top : box.top + box.height + radius, left : box.left + box.width + radius]
    around_HWC = around_HWC.astype(np.float64)
    inner = Box(box.top - top, box.left - left, box.height, box.width)
    for step in range(settings.steps + 1):
        sigma = settings.sigma * (1 - step / settings.steps) + _LEAST_SIGMA
        blurred_HWC = ndimage.gaussian_filter(
            around_HWC, (sigma, sigma, 0), mode="mirror", radius=(radius, radius, 0)
        )  # scipy's mirror is reflect-101
        yield inner.cut(blurred_HWC)


def box_around(window: Window, shape: tuple[int, int], *, scale: int, crop: int | None, alignment: int) -> Box:
    """Choose the part of a picture that a network is shown: a square with the window near its middle.

    Args:
        window: of the result.
        shape: (H, W) of the low-resolution picture.
        scale: enlargement.
        crop: side of the square; None: the whole picture.
        alignment: the square starts at a multiple of it, so that windows of attention lie as in the whole picture.

    Raises:
        DataError: the window does not lie in the result, or not in so small a square.
    """
    (height, width), (left, top, size) = shape, window
    if size >= min(width, height) * scale:
        raise DataError(
            f"a window of {size} pixels does not fit the result of {width * scale}x{height * scale}: "
            f"take --size {min(width, height) * scale - 1} or less, or such a SIZE in --window"
        )
    if left < 0 or top < 0 or size < 1 or left + size >= width * scale or top + size >= height * scale:
        raise DataError(
            f"window {left} {top} {size} does not fit the result of {width * scale}x{height * scale}: X at most "
            f"{width * scale - size - 1}, Y at most {height * scale - size - 1}, both at least 0"
        )
    if crop is None:
        return Box(0, 0, height, width)
    starts = [
        _aligned_start(first, size, length, scale=scale, crop=crop, alignment=alignment)
        for first, length in ((top, height), (left, width))
    ]
    return Box(*starts, min(crop, height), min(crop, width))


def _aligned_start(first: int, size: int, length: int, *, scale: int, crop: int, alignment: int) -> int:
    """Choose where the square starts on one axis: aligned, inside the picture, as central as can be."""
    if crop >= length:
        return 0
    wanted = (first + size / 2) / scale - crop / 2
    start = min(max(round(wanted / alignment) * alignment, 0), (length - crop) // alignment * alignment)
    if start * scale > first or first + size >= (start + crop) * scale:
        start = min(max(round(wanted), 0), length - crop)  # near the end of a picture that is no multiple
    if start * scale > first or first + size >= (start + crop) * scale:
        raise DataError(f"crop (={crop}) must hold the window of {size} pixels of the result: take a larger crop")
    return start


def local_attribution(
    network: nn.Module,
    image_HWC: np.ndarray,
    window: Window,
    *,
    scale: int,
    crop: int | None = None,
    alignment: int = 1,
    settings: PathSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LocalAttribution:
    """Compute the local attribution map of one window.

    Args:
        network: on any device; maps (1, C, H, W) to (1, C, H * scale, W * scale).
        image_HWC: the low-resolution picture, floats in 0..1.
        window: of the result for the whole picture.
        scale: enlargement.
        crop: low-resolution pixels a side that the network is shown; None: all. It bounds the memory.
        alignment: of the crop's corner, see box_around.
        settings: the path's constants.
        progress: called after each step with its number and how many there are.

    Raises:
        DataError: the window or crop does not fit, or nothing has an attribution since the picture is flat there.
        HriusrError: out of memory, or the network's gradient is not finite.
    """
    settings = settings or PathSettings()
    box = box_around(window, image_HWC.shape[:2], scale=scale, crop=crop, alignment=alignment)
    inner = Window(window.left - box.left * scale, window.top - box.top * scale, window.size)

    def objective(sr_1CHW: Tensor) -> Tensor:
        return detail(sr_1CHW, inner)

    signed_CHW = np.zeros((image_HWC.shape[2], box.height, box.width))
    images = gaussian_path(image_HWC, box, settings)
    previous_HWC = next(images)
    with explained(network):
        with torch.no_grad():
            detail_blurred = float(objective(network(network_input(network, previous_HWC))))
        for step, blurred_HWC in enumerate(images, start=1):
            lr_1CHW = network_input(network, blurred_HWC)
            gradient_1CHW, detail_sharp, sr_1CHW = input_gradient(network, lr_1CHW, objective)
            # m (I_k - I_{k-1}), averaged over m steps
            signed_CHW += gradient_1CHW[0].double().cpu().numpy() * (blurred_HWC - previous_HWC).transpose(2, 0, 1)
            previous_HWC = blurred_HWC
            if progress is not None:
                progress(step, settings.steps)
    if np.abs(signed_CHW.sum(axis=0)).max() < _NOTHING:
        raise DataError(
            f"window {window.left} {window.top} {window.size}: no pixel has an attribution, since the picture is flat "
            "where the network looks: choose another window"
        )
    sr_HWC = sr_1CHW[0].permute(1, 2, 0).double().cpu().numpy()
    return LocalAttribution(signed_CHW, sr_HWC, box, detail_blurred, float(detail_sharp))
