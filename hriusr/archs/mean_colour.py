"""The colour that networks subtract from their input: published weights expect it, and files do not store it."""

import torch
from torch import Tensor

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K's training pictures, range 0..1, as in EDSR, SwinIR and HAT


def mean_colour(in_chans: int) -> Tensor:
    """Return (1, in_chans, 1, 1): RGB_MEAN for three channels, zeros for any other number."""
    return torch.tensor(RGB_MEAN if in_chans == 3 else (0.0,) * in_chans).view(1, -1, 1, 1)
