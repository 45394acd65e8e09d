"""Distance of the slopes of two pictures: edges count, brightness does not."""

import torch
from torch import Tensor

from hriusr.basicsr_bridge import LOSS_REGISTRY, replace_in
from hriusr.losses.full_precision import FullPrecisionLoss, check_reduction, reduce


@replace_in(LOSS_REGISTRY, "GradientLoss")
class GradientLoss(FullPrecisionLoss):
    """L1 between Sobel gradients, horizontal and vertical, inside the pictures.

    Args:
        loss_weight: factor.
        reduction: mean or sum.

    Raises:
        ValueError: another reduction.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: str = "mean"):
        super().__init__(loss_weight)
        self.reduction = check_reduction(reduction)

    def measure(self, output_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """Return the distance of the gradients, per pixel of distance."""
        return reduce(sobel(output_BCHW - target_BCHW).abs(), self.reduction)


def sobel(x_BCHW: Tensor) -> Tensor:
    """Return the slopes in x and in y, (2, B, C, H-2, W-2); by sums, since convolutions may round to TF32."""
    slope_x = _smooth((x_BCHW[..., 2:] - x_BCHW[..., :-2]).mT).mT
    slope_y = _smooth(x_BCHW[..., 2:, :] - x_BCHW[..., :-2, :])
    return torch.stack([slope_x, slope_y]) / 8


def _smooth(x_BCHW: Tensor) -> Tensor:
    """Weigh neighbours along the last dimension 1, 2, 1."""
    return x_BCHW[..., :-2] + 2 * x_BCHW[..., 1:-1] + x_BCHW[..., 2:]
