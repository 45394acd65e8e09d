"""JPEG's loss on batches, on any device, without the file: as libjpeg does it, with chroma of half the size.

Unlike BasicSR's DiffJPEG: tables of whole numbers that are not transposed, edges repeated instead of black below and
right, chroma enlarged by libjpeg's triangle filter. So the result is within 1 of 255, on average, of what Pillow reads
back.

Letters: B batch, H W pixels, N blocks of 8x8.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

# ITU-T T.81, tables K.1 and K.2, rows of rising vertical frequency
_LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))  # 99 elsewhere

# JFIF: Y, Cb, Cr from R, G, B, all 0..255; Cb and Cr around 0
_FROM_RGB = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


def jpeg(x_BCHW: Tensor, quality_B: Tensor) -> Tensor:
    """Compress and decompress.

    Args:
        x_BCHW: RGB, 0..1.
        quality_B: 1..100, need not be whole; on the device of x.

    Returns:
        (B, 3, H, W), 0..1, not rounded to 8 bits.
    """
    height, width = x_BCHW.shape[-2:]
    padded = F.pad(x_BCHW, (0, -width % 16, 0, -height % 16), "replicate") * 255
    ycc_BCHW = torch.einsum("oc,bchw->bohw", padded.new_tensor(_FROM_RGB), padded).round_()
    luma_table_B64, chroma_table_B64 = _tables(quality_B)
    luma_BCHW = _round_coefficients(ycc_BCHW[:, :1] - 128, luma_table_B64) + 128
    chroma_BCHW = _round_coefficients(F.avg_pool2d(ycc_BCHW[:, 1:], 2).round_(), chroma_table_B64)
    chroma_BCHW = F.interpolate(chroma_BCHW.clamp_(-128, 127), scale_factor=2, mode="bilinear")
    ycc_BCHW = torch.cat([luma_BCHW.clamp_(0, 255), chroma_BCHW], dim=1)
    rgb_BCHW = torch.einsum("oc,bchw->bohw", padded.new_tensor(_TO_RGB), ycc_BCHW)
    return (rgb_BCHW[..., :height, :width] / 255).clamp_(0, 1)


def _round_coefficients(x_BCHW: Tensor, table_B64: Tensor) -> Tensor:
    """Round the cosine coefficients of each block of 8x8 to multiples of the table."""
    batch, channels, height, width = x_BCHW.shape
    shape = (batch, channels, height // 8, 8, width // 8, 8)
    blocks_BN64 = x_BCHW.reshape(shape).transpose(3, 4).reshape(batch, -1, 64)
    transform = _cosine_transform(x_BCHW.device, x_BCHW.dtype)
    steps_B164 = table_B64[:, None]
    coefficients_BN64 = (blocks_BN64 @ transform.T / steps_B164).round_() * steps_B164
    blocks = (coefficients_BN64 @ transform).reshape(batch, channels, height // 8, width // 8, 8, 8)
    return blocks.transpose(3, 4).reshape(x_BCHW.shape)


def _tables(quality_B: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the two tables as libjpeg does, (B, 64) each."""
    quality_B1 = quality_B.float().clamp(1, 100)[:, None]
    percent_B1 = torch.where(quality_B1 < 50, (5000 / quality_B1).floor(), 200 - 2 * quality_B1)
    scaled = [((table * percent_B1 + 50) / 100).floor().clamp(1, 255) for table in _base_tables(quality_B.device)]
    return scaled[0], scaled[1]


@functools.cache
def _base_tables(device: torch.device) -> tuple[Tensor, Tensor]:
    chroma = torch.full((8, 8), 99.0)
    chroma[:4, :4] = torch.tensor(_CHROMA_CORNER)
    return torch.tensor(_LUMA_TABLE, dtype=torch.float32).flatten().to(device), chroma.flatten().to(device)


@functools.cache
def _cosine_transform(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the orthonormal two-dimensional cosine transform of a block as a (64, 64) matrix."""
    frequency, place = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    rows = torch.cos((2 * place + 1) * frequency * torch.pi / 16) / 2
    rows[0] /= 2**0.5
    return torch.kron(rows, rows).to(device, dtype)
