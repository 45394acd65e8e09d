"""Blur kernels: Gaussian, generalised Gaussian, plateau-shaped and sinc, equal to BasicSR's.

Letters: K side of a kernel; m the squared Mahalanobis distance of a place from the centre, so that exp(-m / 2) is the
Gaussian, exp(-m**beta / 2) the generalised one (arXiv:1302.6498) and 1 / (1 + m**beta) the plateau.
"""

import math

import numpy as np
from scipy import special

from hriusr.data.degradations.settings import BlurSettings, KernelSettings, Range

_SMALLEST = 7  # side of the smallest kernel, Real-ESRGAN's


def gaussian_kernel(
    size: int, sigma_x: float, sigma_y: float, angle: float, *, beta: float = 1.0, is_plateau: bool = False
) -> np.ndarray:
    """Compute a kernel whose level lines are ellipses.

    Args:
        size: K, odd.
        sigma_x: standard deviation along the first axis, pixels.
        sigma_y: standard deviation along the second axis, pixels.
        angle: of the first axis, radians.
        beta: shape; 1 is the Gaussian, larger ones are flatter on top.
        is_plateau: 1 / (1 + m**beta) instead of exp(-m**beta / 2).

    Returns:
        (K, K) float64 whose sum is 1.
    """
    offset = np.arange(size) - size // 2
    x_KK, y_KK = np.meshgrid(offset, offset)
    cosine, sine = math.cos(angle), math.sin(angle)
    along, across = cosine * x_KK + sine * y_KK, cosine * y_KK - sine * x_KK
    distance_KK = ((along / sigma_x) ** 2 + (across / sigma_y) ** 2) ** beta
    kernel_KK = 1 / (1 + distance_KK) if is_plateau else np.exp(-0.5 * distance_KK)
    return kernel_KK / kernel_KK.sum()


def sinc_kernel(size: int, cutoff: float) -> np.ndarray:
    """Compute the ideal circular low-pass filter: it rings, as sharpened and recompressed pictures do.

    Args:
        size: K, odd.
        cutoff: frequency, radians a pixel, up to pi.

    Returns:
        (K, K) float64 whose sum is 1.
    """
    offset = np.arange(size) - size // 2
    radius_KK = np.hypot(*np.meshgrid(offset, offset))
    radius_KK[size // 2, size // 2] = 1  # the limit at 0 is set below
    kernel_KK = cutoff * special.j1(cutoff * radius_KK) / (2 * np.pi * radius_KK)
    kernel_KK[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return kernel_KK / kernel_KK.sum()


def draw_kernels(settings: KernelSettings, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the kernels of a sample: of both blurs and of the last filter, (K, K) float32 each."""
    return (
        draw_blur_kernel(settings.first, generator),
        draw_blur_kernel(settings.second, generator),
        draw_final_kernel(settings.final_sinc_prob, settings.second.blur_kernel_size, generator),
    )


def draw_blur_kernel(settings: BlurSettings, generator: np.random.Generator) -> np.ndarray:
    """Draw a kernel of any kind.

    Args:
        settings: kinds and ranges.
        generator: source of the draw.

    Returns:
        (K, K) float32 with K = settings.kernel_size, zero around a smaller kernel.
    """
    size = _draw_size(settings.kernel_size, generator)
    if generator.random() < settings.sinc_prob:
        lowest = math.pi / 3 if size < 13 else math.pi / 5
        kernel_KK = sinc_kernel(size, generator.uniform(lowest, math.pi))
    else:
        kernel_KK = _draw_gaussian(settings, size, generator)
    return _pad(kernel_KK, settings.kernel_size)


def draw_final_kernel(probability: float, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draw the last sinc kernel, or one that changes nothing.

    Args:
        probability: of a sinc kernel.
        size: K, odd.
        generator: source of the draw.

    Returns:
        (K, K) float32.
    """
    if generator.random() < probability:
        own_size = _draw_size(size, generator)
        return _pad(sinc_kernel(own_size, generator.uniform(math.pi / 3, math.pi)), size)
    return _pad(np.ones((1, 1)), size)


def _draw_gaussian(settings: BlurSettings, size: int, generator: np.random.Generator) -> np.ndarray:
    weights = np.array(settings.kernel_prob) / sum(settings.kernel_prob)
    kind = settings.kernel_list[generator.choice(len(weights), p=weights)]
    sigma_x = sigma_y = generator.uniform(*settings.blur_sigma)
    angle, beta = 0.0, 1.0
    if not kind.endswith("iso") or kind.endswith("aniso"):
        sigma_y, angle = generator.uniform(*settings.blur_sigma), generator.uniform(-math.pi, math.pi)
    if kind.startswith("generalized"):
        beta = _draw_beta(settings.betag_range, generator)
    if kind.startswith("plateau"):
        beta = _draw_beta(settings.betap_range, generator)
    return gaussian_kernel(size, sigma_x, sigma_y, angle, beta=beta, is_plateau=kind.startswith("plateau"))


def _draw_beta(beta_range: Range, generator: np.random.Generator) -> float:
    """Draw below 1 and above 1 equally often, whatever the lengths of the two parts."""
    return generator.uniform(beta_range[0], 1) if generator.random() < 0.5 else generator.uniform(1, beta_range[1])


def _draw_size(largest: int, generator: np.random.Generator) -> int:
    """Draw an odd size up to the largest."""
    smallest = min(_SMALLEST, largest)
    return smallest + 2 * int(generator.integers(0, (largest - smallest) // 2 + 1))


def _pad(kernel_KK: np.ndarray, size: int) -> np.ndarray:
    return np.pad(kernel_KK, (size - len(kernel_KK)) // 2).astype(np.float32)
