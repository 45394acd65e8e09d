"""Losses of pixels beside BasicSR's L1Loss, MSELoss and CharbonnierLoss."""

import math

import torch
from torch import Tensor

from hriusr.basicsr_bridge import LOSS_REGISTRY, replace_in
from hriusr.losses.full_precision import FullPrecisionLoss, check_reduction, reduce

_Y_OF_RGB = (65.481, 128.553, 24.966)  # BT.601, 16..235


@replace_in(LOSS_REGISTRY, "PSNRLoss")
class PSNRLoss(FullPrecisionLoss):
    """Minus the PSNR in dB, the mean over pictures (NAFNet, arXiv:2204.04676).

    Args:
        loss_weight: factor.
        reduction: mean.
        toY: measure Y of YCbCr alone; the key is NAFNet's.

    Raises:
        ValueError: another reduction.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: str = "mean", toY: bool = False):
        super().__init__(loss_weight)
        if reduction != "mean":
            raise ValueError(f"reduction (={reduction!r}) must be mean")
        self.toY = toY

    def measure(self, output_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """Return minus the PSNR; 80 dB at most."""
        error_BCHW = output_BCHW - target_BCHW
        if self.toY:
            factors = torch.tensor(_Y_OF_RGB, dtype=error_BCHW.dtype, device=error_BCHW.device) / 255
            error_BCHW = (error_BCHW * factors[:, None, None]).sum(1, keepdim=True)
        return 10 / math.log(10) * torch.log(error_BCHW.square().mean((1, 2, 3)) + 1e-8).mean()


@replace_in(LOSS_REGISTRY, "WeightedTVLoss")
class WeightedTVLoss(FullPrecisionLoss):
    """Total variation of the output: how much neighbours differ.

    BasicSR's class takes a map of weights where other losses take the ground truth, and so multiplies by the picture
    when it is used as train.pixel_opt. This one looks at the output alone.

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
        """Return the variation in y and in x."""
        differences = (output_BCHW.diff(dim=-2), output_BCHW.diff(dim=-1))
        return sum(reduce(difference.abs(), self.reduction) for difference in differences)
