"""MATLAB's imresize with the bicubic kernel, exact to the bit for uint8: the degradation of the published benchmarks.

Kernel: cubic convolution with a = -0.5 (Keys, IEEE TASSP 29(6), 1981, eq. 15), stretched by 1/scale when the picture
shrinks (antialiasing), borders mirrored with the edge pixel doubled. MATLAB resizes one axis after the other and, for
an integer picture, rounds half away from zero and clips to the type's range after *each* axis. Without the rounding in
between, 10 to 14 % of the values differ from the official low-resolution files.

Letters: H W C height, width, channels of the source; h w the same of the result; P the number of taps of a kernel.
"""

import functools
import math

import numpy as np
from scipy import sparse

_STRIP = 4096  # columns treated at once: the float64 strip (H x 4096) stays small next to the picture


def imresize(
    image: np.ndarray,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    window: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Resize as MATLAB's `imresize(image, scale)` or `imresize(image, [h w])` does, method bicubic.

    Args:
        image: (H, W) or (H, W, C). uint8 and uint16 are rounded and clipped after each axis; floats are not rounded and
            may leave the source's range by a few percent (the kernel overshoots).
        scale: factor of both axes; the result is ceil(H * scale) x ceil(W * scale). 0.5 halves, 4 enlarges.
        size: (h, w) of the result, instead of scale. As in MATLAB, the axis that shrinks more is resized first.
        window: (top, left, height, width) of the result: compute this part alone, equal to that crop of the whole.

    Returns:
        The resized picture, same type and number of axes.

    Raises:
        ValueError: both or none of scale and size are given, or something is empty, not positive or out of range.
    """
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"image (shape {image.shape}) must be (H, W) or (H, W, C) and not empty")
    if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image (dtype {image.dtype}) must be uint8, uint16 or floating point")
    scales, size = _scales_and_size(image.shape[:2], scale, size)
    top, left, height, width = window or (0, 0, *size)
    if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise ValueError(f"window (={window}) must lie inside the result (={size[0]}x{size[1]})")

    rows, above, below = _spanned_weights(image.shape[0], size[0], scales[0], top, height)
    columns, before, after = _spanned_weights(image.shape[1], size[1], scales[1], left, width)
    image = image[above:below, before:after]
    if scales[1] < scales[0]:
        return _resize_rows(_resize_columns(image, columns), rows)
    return _resize_columns(_resize_rows(image, rows), columns)


def downsample(image: np.ndarray, factor: int, window: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Shrink by a whole number: the low-resolution picture of a benchmark.

    Args:
        image: as imresize takes it; both sides are multiples of factor (see transforms.crop_to_multiple).
        factor: 1, 2, 3 ...
        window: as in imresize.

    Raises:
        ValueError: a side is no multiple of factor.
    """
    height, width = image.shape[:2]
    if height % factor or width % factor:
        raise ValueError(f"image (={height}x{width}) must have sides that are multiples of factor (={factor})")
    if factor == 1:  # every weight but one is 0
        top, left, height, width = window or (0, 0, height, width)
        return image[top : top + height, left : left + width]
    # by size: 1/7 as a float is above 1/7, and ceil(49 * (1 / 7)) may come out as 8
    return imresize(image, size=(height // factor, width // factor), window=window)


def _scales_and_size(
    source: tuple[int, int], scale: float | None, size: tuple[int, int] | None
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Complete what the caller left out: the factor of each axis from the size, or the size from the factor."""
    if (scale is None) == (size is None):
        raise ValueError(f"exactly one of scale (={scale}) and size (={size}) must be given")
    if size is None:
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale (={scale}) must be a positive number")
        return (scale, scale), (math.ceil(source[0] * scale), math.ceil(source[1] * scale))
    if min(size) < 1:
        raise ValueError(f"size (={size}) must be positive")
    return (size[0] / source[0], size[1] / source[1]), size


def _spanned_weights(
    source: int, length: int, scale: float, start: int, count: int
) -> tuple[sparse.csr_array, int, int]:
    """Return the weights (count, last - first) of a span of one axis, and the span first..last of the source below."""
    weights = _axis_weights(source, length, scale)
    if count == length:
        return weights, 0, source
    weights = weights[start : start + count]
    first, last = int(weights.indices.min()), int(weights.indices.max()) + 1
    shifted = (weights.data, weights.indices - first, weights.indptr)
    return sparse.csr_array(shifted, (count, last - first)), first, last


def _resize_columns(image: np.ndarray, weights: sparse.csr_array) -> np.ndarray:
    """Multiply along axis 1: as rows of the transposed picture."""
    transposed = np.ascontiguousarray(np.moveaxis(image, 1, 0))
    return np.ascontiguousarray(np.moveaxis(_resize_rows(transposed, weights), 0, 1))


def _resize_rows(image: np.ndarray, weights: sparse.csr_array) -> np.ndarray:
    """Multiply the weights (h, H) with a picture (H, ...) in float64 and return the result to the picture's type."""
    source = image.reshape(image.shape[0], -1)
    result = np.empty((weights.shape[0], source.shape[1]), image.dtype)
    for start in range(0, source.shape[1], _STRIP):
        strip = weights @ source[:, start : start + _STRIP].astype(np.float64)
        if image.dtype.kind == "u":
            strip.clip(0, np.iinfo(image.dtype).max, out=strip)
            strip += 0.5  # not negative any more: floor(x + 0.5), which the cast does, is round half away from zero
        result[:, start : start + _STRIP] = strip
    return result.reshape(weights.shape[0], *image.shape[1:])


@functools.lru_cache(maxsize=64)
def _axis_weights(source: int, length: int, scale: float) -> sparse.csr_array:
    """Return the (length, source) matrix that resizes one axis; a row's weights add up to 1."""
    stretch = min(scale, 1.0)
    num_taps = math.ceil(4 / stretch) + 2
    centre = np.arange(1, length + 1) / scale + 0.5 * (1 - 1 / scale)  # MATLAB counts pixels from 1
    first = np.floor(centre - 2 / stretch)
    tap_hP = first[:, None] + np.arange(num_taps)
    weight_hP = stretch * _cubic(stretch * (centre[:, None] - tap_hP))
    weight_hP /= weight_hP.sum(axis=1, keepdims=True)
    # Mirror with period 2 * source: 1 2 .. N N .. 2 1
    folded_hP = (tap_hP.astype(np.int64) - 1) % (2 * source)
    folded_hP = np.minimum(folded_hP, 2 * source - 1 - folded_hP)

    used_P = np.any(weight_hP != 0, axis=0)
    weight_hP, folded_hP = weight_hP[:, used_P], folded_hP[:, used_P]
    row_starts = np.arange(length + 1) * weight_hP.shape[1]
    # Built row by row, not through COO: mirrored taps that meet in a pixel must not be added up before the product.
    return sparse.csr_array((weight_hP.ravel(), folded_hP.ravel().astype(np.int32), row_starts), (length, source))


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Evaluate Keys' cubic kernel, a = -0.5; zero from distance 2 on."""
    x = np.abs(distance)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
