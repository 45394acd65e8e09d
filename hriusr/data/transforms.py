"""What happens to a pair of pictures between file and tensor: crop, flip, turn, luma, normalise.

All randomness comes from a numpy Generator that the caller hands in. Pictures stay uint8 views until the patch is cut,
so that a training item costs as much as its patch and not as its picture.

Letters: H W C height, width, channels; lq the low-resolution picture, gt the ground truth, scale times as large.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

# ITU-R BT.601 as MATLAB's rgb2ycbcr and BasicSR have it: R, G, B in 0..1 to Y in 16..235
_LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966])


def choose_corner(lq_size: tuple[int, int], lq_patch: int, generator: np.random.Generator) -> tuple[int, int]:
    """Draw the top left corner of a square patch, every place alike.

    Args:
        lq_size: (H, W) of the low-resolution picture, at least the patch.
        lq_patch: side of the patch, low-resolution pixels.
        generator: two integers are drawn.

    Returns:
        (top, left) in low-resolution pixels.
    """
    top, left = generator.integers(0, [lq_size[0] - lq_patch + 1, lq_size[1] - lq_patch + 1])
    return int(top), int(left)


class Window(NamedTuple):
    """A rectangle of pixels inside a picture."""

    top: int
    left: int
    height: int
    width: int

    def rows(self, origin: int = 0) -> slice:
        """Return its rows, in a picture that begins at row `origin`."""
        return slice(self.top - origin, self.top - origin + self.height)

    def columns(self, origin: int = 0) -> slice:
        """Return its columns, in a picture that begins at column `origin`."""
        return slice(self.left - origin, self.left - origin + self.width)

    def scaled(self, scale: int) -> "Window":
        """Return the same place in a picture scale times as large."""
        return Window(*(scale * number for number in self))


def enlarge_to(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """Enlarge a picture, bilinearly, to at least side pixels each way, as HAT does with ImageNet; others stay."""
    height, width = image_HWC.shape[:2]
    if min(height, width) >= side:
        return image_HWC
    return cv2.resize(image_HWC, (max(width, side), max(height, side)))


def cut(image_HWC: np.ndarray, window: Window) -> np.ndarray:
    """Cut a window out of a picture; returns a view."""
    return image_HWC[window.rows(), window.columns()]


def augment(
    images_HWC: Sequence[np.ndarray], generator: np.random.Generator, *, use_hflip: bool = True, use_rot: bool = True
) -> list[np.ndarray]:
    """Flip and turn all pictures alike; with both switches the 8 symmetries of the square come up equally often.

    Args:
        images_HWC: pictures that belong together.
        generator: three bits are drawn whatever the switches, so that one switch does not change the other's luck.
        use_hflip: flip left-right, with probability 1/2.
        use_rot: flip upside down and swap the axes, each with probability 1/2 (BasicSR's rotation).

    Returns:
        Views of the pictures.
    """
    is_flipped, is_upside_down, is_transposed = generator.integers(0, 2, 3).astype(bool)
    images = list(images_HWC)
    if use_hflip and is_flipped:
        images = [image[:, ::-1] for image in images]
    if use_rot and is_upside_down:
        images = [image[::-1] for image in images]
    if use_rot and is_transposed:
        images = [image.swapaxes(0, 1) for image in images]
    return images


def crop_to_multiple(image_HWC: np.ndarray, multiple: int) -> np.ndarray:
    """Cut the surplus rows and columns off at the bottom and right (MATLAB's modcrop); returns a view."""
    height, width = image_HWC.shape[:2]
    return image_HWC[: height - height % multiple, : width - width % multiple]


def luma(image_HWC: np.ndarray) -> np.ndarray:
    """Compute Y of YCbCr (BT.601, 16..235 of 255) as BasicSR's `bgr2ycbcr(..., y_only=True)` does for floats.

    Args:
        image_HWC: RGB, uint8 or uint16, or float in 0..1.

    Returns:
        (H, W, 1) float32 in 0..1, not rounded.
    """
    image = image_HWC
    if image.dtype.kind == "u":
        image = image.astype(np.float32) / np.iinfo(image.dtype).max
    return ((image @ _LUMA_WEIGHTS + 16) / 255).astype(np.float32)[..., None]


def grey(image_HWC: np.ndarray) -> np.ndarray:
    """Compute brightness as OpenCV does (BT.601, full range), which grey denoising is trained and tested on.

    Args:
        image_HWC: RGB, uint8 or uint16.

    Returns:
        (H, W, 1), the same type, rounded.
    """
    return cv2.cvtColor(np.ascontiguousarray(image_HWC), cv2.COLOR_RGB2GRAY)[..., None]


def normalise(image_CHW: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Compute (image - mean) / std a channel, in place.

    Args:
        image_CHW: float tensor.
        mean: one number a channel.
        std: one number a channel, not 0.
    """
    mean_C11 = image_CHW.new_tensor(mean)[:, None, None]
    std_C11 = image_CHW.new_tensor(std)[:, None, None]
    return image_CHW.sub_(mean_C11).div_(std_C11)
