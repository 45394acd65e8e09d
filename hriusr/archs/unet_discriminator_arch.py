"""The discriminator of Real-ESRGAN (arXiv:2107.10833): a U-Net with spectral norm that judges every pixel.

    3x3 -> three 4x4 of stride 2 -> three (enlarge, 3x3, add the features of that size) -> two 3x3 -> 3x3 to one channel

Parameters are named as in BasicSR's class, so that its weights load.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

from hriusr.basicsr_bridge import ARCH_REGISTRY, replace_in

_SLOPE = 0.2  # of leaky ReLU


@replace_in(ARCH_REGISTRY, "UNetDiscriminatorSN")
class UNetDiscriminatorSN(nn.Module):
    """Answers for each pixel how real it looks (a logit).

    Args:
        num_in_ch: channels of the pictures.
        num_feat: channels of the features in full size.
        skip_connection: add the features of the way down to those of the way up.
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, skip_connection: bool = True):
        super().__init__()
        self.skip_connection = skip_connection
        self.conv0 = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.conv1 = _convolution(num_feat, 2 * num_feat, halves=True)
        self.conv2 = _convolution(2 * num_feat, 4 * num_feat, halves=True)
        self.conv3 = _convolution(4 * num_feat, 8 * num_feat, halves=True)
        self.conv4 = _convolution(8 * num_feat, 4 * num_feat)
        self.conv5 = _convolution(4 * num_feat, 2 * num_feat)
        self.conv6 = _convolution(2 * num_feat, num_feat)
        self.conv7 = _convolution(num_feat, num_feat)
        self.conv8 = _convolution(num_feat, num_feat)
        self.conv9 = nn.Conv2d(num_feat, 1, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Judge pictures.

        Args:
            x_BCHW: range 0..1; H and W at least 8.

        Returns:
            Logits (B, 1, H, W).
        """
        features = [_activate(self.conv0(x_BCHW))]
        for down in (self.conv1, self.conv2, self.conv3):
            features.append(_activate(down(features[-1])))
        y_BCHW = features.pop()
        for up in (self.conv4, self.conv5, self.conv6):
            skip = features.pop()
            y_BCHW = _activate(up(F.interpolate(y_BCHW, size=skip.shape[-2:], mode="bilinear")))
            if self.skip_connection:
                y_BCHW = y_BCHW + skip
        y_BCHW = _activate(self.conv8(_activate(self.conv7(y_BCHW))))
        return self.conv9(y_BCHW)


def _convolution(in_channels: int, out_channels: int, *, halves: bool = False) -> nn.Module:
    kernel_size, stride = (4, 2) if halves else (3, 1)
    return spectral_norm(nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=1, bias=False))


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE)
