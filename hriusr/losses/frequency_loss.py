"""Distance of spectra (MIMO-UNet, arXiv:2108.05054): high frequencies count as much as low ones."""

import torch
from torch import Tensor

from hriusr.basicsr_bridge import LOSS_REGISTRY, replace_in
from hriusr.losses.full_precision import FullPrecisionLoss, check_reduction, reduce


@replace_in(LOSS_REGISTRY, "FFTLoss")
class FFTLoss(FullPrecisionLoss):
    """L1 between the real and imaginary parts of two discrete Fourier transforms.

    Args:
        loss_weight: factor; 0.05 to 0.1 beside an L1 loss is usual.
        reduction: mean or sum.
        norm: of the transform: backward (none) or ortho (values do not grow with the patch).

    Raises:
        ValueError: another reduction or norm.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: str = "mean", norm: str = "backward"):
        super().__init__(loss_weight)
        if norm not in ("backward", "ortho"):
            raise ValueError(f"norm (={norm!r}) must be backward or ortho")
        self.reduction, self.norm = check_reduction(reduction), norm

    def measure(self, output_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """Return the distance of the spectra."""
        # the transform is linear: one of the difference does for two
        difference = torch.fft.rfft2(output_BCHW - target_BCHW, norm=self.norm)
        return reduce(torch.view_as_real(difference).abs(), self.reduction)
