"""1 - SSIM (Wang et al., IEEE TIP 13(4), 2004) and 1 - MS-SSIM (Wang et al., Asilomar 2003) as losses.

The window is the metric's: a Gaussian of 11 pixels and sigma 1.5, only where it lies inside. It is applied by products
with band matrices: convolutions round to TF32 on GPUs unless told otherwise, which variances do not survive, and a
depthwise one of one channel is slow on CPUs.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from hriusr.basicsr_bridge import LOSS_REGISTRY, replace_in
from hriusr.errors import OptionsError
from hriusr.losses.full_precision import FullPrecisionLoss

_C1, _C2 = 0.01**2, 0.03**2  # for pixels of 0..1
_WINDOW_SIZE, _SIGMA = 11, 1.5
_LEVEL_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SMALLEST = 1e-6  # below it a power's slope is infinite, and structures may be opposite


@replace_in(LOSS_REGISTRY, "SSIMLoss")
class SSIMLoss(FullPrecisionLoss):
    """1 - SSIM, the mean over channels and pixels.

    Args:
        loss_weight: factor.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__(loss_weight)

    def measure(self, output_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """Return 1 - SSIM."""
        _check_size(output_BCHW, 1)
        luminance, structure = _similarities(output_BCHW, target_BCHW)
        return 1 - (luminance * structure).mean()


@replace_in(LOSS_REGISTRY, "MSSSIMLoss")
class MSSSIMLoss(FullPrecisionLoss):
    """1 - MS-SSIM: structures compared at sizes halved again and again, luminance at the smallest.

    Args:
        loss_weight: factor.
        levels: sizes, 1 to 5; patches have more than 10 * 2**(levels - 1) pixels a side. With less than 5 the weights
            of the first are scaled to sum up to 1.

    Raises:
        ValueError: another number of levels.
    """

    def __init__(self, loss_weight: float = 1.0, levels: int = 5):
        super().__init__(loss_weight)
        if not 1 <= levels <= len(_LEVEL_WEIGHTS):
            raise ValueError(f"levels (={levels}) must be 1 to {len(_LEVEL_WEIGHTS)}")
        weights = _LEVEL_WEIGHTS[:levels]
        total = 1.0 if levels == len(_LEVEL_WEIGHTS) else sum(weights)
        self.weights = tuple(weight / total for weight in weights)

    def measure(self, output_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """Return 1 - MS-SSIM."""
        _check_size(output_BCHW, len(self.weights))
        product_BC: Tensor | float = 1.0
        for number, weight in enumerate(self.weights):
            if number:
                output_BCHW, target_BCHW = _halve(output_BCHW), _halve(target_BCHW)
            luminance, structure = _similarities(output_BCHW, target_BCHW)
            is_last = number == len(self.weights) - 1
            mean_BC = (luminance * structure if is_last else structure).mean((-2, -1))
            product_BC = product_BC * mean_BC.clamp(min=_SMALLEST) ** weight
        return 1 - product_BC.mean()


def _similarities(x_BCHW: Tensor, y_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return luminance and structure (with contrast) of each window."""
    maps = torch.stack([x_BCHW, y_BCHW, x_BCHW * x_BCHW + y_BCHW * y_BCHW, x_BCHW * y_BCHW])
    mean_x, mean_y, mean_squares, mean_product = _smooth(maps)
    squared_means, product_of_means = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
    luminance = (2 * product_of_means + _C1) / (squared_means + _C1)
    structure = (2 * (mean_product - product_of_means) + _C2) / (mean_squares - squared_means + _C2)
    return luminance, structure


def _smooth(x_BCHW: Tensor) -> Tensor:
    """Filter with the Gaussian where it lies inside, by two products with band matrices."""
    height, width = x_BCHW.shape[-2:]
    down, across = (_band(side, x_BCHW.device, x_BCHW.dtype) for side in (height, width))
    return down @ x_BCHW @ across.mT


@functools.lru_cache(maxsize=32)
def _band(side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrix (side - 10, side) whose rows are the window, one pixel further each; not to be changed."""
    offsets = torch.arange(_WINDOW_SIZE, dtype=torch.float64) - _WINDOW_SIZE // 2
    kernel = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    num_rows = side - _WINDOW_SIZE + 1
    columns = torch.arange(num_rows)[:, None] + torch.arange(_WINDOW_SIZE)
    band = torch.zeros(num_rows, side, dtype=torch.float64)
    band.scatter_(1, columns, (kernel / kernel.sum()).expand(num_rows, -1))
    return band.to(device, dtype)


def _halve(x_BCHW: Tensor) -> Tensor:
    """Average 2x2 pixels; odd sides get a border of zeros first, as in the reference implementations."""
    return F.avg_pool2d(x_BCHW, 2, padding=[side % 2 for side in x_BCHW.shape[-2:]])


def _check_size(x_BCHW: Tensor, levels: int) -> None:
    needed = (_WINDOW_SIZE - 1) * 2 ** (levels - 1) + 1
    height, width = x_BCHW.shape[-2:]
    if min(height, width) < needed:
        name = "MSSSIMLoss" if levels > 1 else "SSIMLoss"
        advice = ", fewer levels, or SSIMLoss" if levels > 1 else ""
        raise OptionsError(
            f"{name} needs patches of at least {needed} pixels a side, these have {height}x{width}: choose a larger "
            f"datasets.train.gt_size{advice}"
        )
