"""Base of losses that need fp32: a Fourier transform or a variance is nothing to compute in 8 bits of mantissa."""

import torch
from torch import Tensor, nn


class FullPrecisionLoss(nn.Module):
    """Measures two pictures in fp32 (fp64 where they are), also under autocast, times a weight."""

    def __init__(self, loss_weight: float = 1.0):
        """Keep the factor of the loss."""
        super().__init__()
        self.loss_weight = loss_weight

    def measure(self, output_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """Return the loss without its weight, a scalar."""
        raise NotImplementedError

    def forward(self, output_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """Measure.

        Args:
            output_BCHW: of the network.
            target_BCHW: ground truth.
        """
        with torch.autocast(output_BCHW.device.type, enabled=False):
            return self.loss_weight * self.measure(_at_least_fp32(output_BCHW), _at_least_fp32(target_BCHW))


def reduce(values: Tensor, reduction: str) -> Tensor:
    """Take the mean or the sum."""
    return values.sum() if reduction == "sum" else values.mean()


def check_reduction(reduction: str) -> str:
    """Return what is mean or sum.

    Raises:
        ValueError: it is neither.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction (={reduction!r}) must be mean or sum")
    return reduction


def _at_least_fp32(x_BCHW: Tensor) -> Tensor:
    return x_BCHW if x_BCHW.dtype == torch.float64 else x_BCHW.float()
