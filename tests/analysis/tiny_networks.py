"""Networks small enough to know everything about."""

import torch
from torch import nn


class Convolutions(nn.Module):
    """Enlarges twice by a convolution and a pixel shuffle, behind others with curved activations."""

    upscale, in_chans = 2, 3

    def __init__(self, depth: int = 1):
        super().__init__()
        torch.manual_seed(2)
        layers = [nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()) for _ in range(depth)]
        self.body = nn.Sequential(*layers, nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(3)

    def forward(self, lr_BCHW):
        return self.body(lr_BCHW)
