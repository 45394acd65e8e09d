"""Linear layers by the faster of the two libraries that PyTorch has for products on a CPU.

MKL does not make full use of processors that are not Intel's, oneDNN does: on an AMD EPYC with AVX-512 it takes about
half of the time in float32 (experiments/LOG.md). PyTorch asks MKL for float32, so without gradients we ask oneDNN, by
the operator that torch.compile has for it. Half precision goes by oneDNN anyhow.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.attention_core import computes_in_place, computing_dtype
from hriusr.blocks.processor import is_intels


class Linear(nn.Linear):
    """torch.nn.Linear, computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias, as torch.nn.functional.linear does.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features); None for none.
    """
    is_float32 = x.dtype == weight.dtype == torch.float32
    if is_float32 and computes_in_place(x) and computing_dtype(x) == torch.float32 and _onednn_is_faster():
        bias = None if bias is None else bias.contiguous()  # the operator reads it as if it were
        return torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), bias, "none", [], "")
    return F.linear(x, weight, bias)


@functools.cache
def _onednn_is_faster() -> bool:
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    has_operator = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_both and has_operator and torch.backends.cpu.get_cpu_capability() == "AVX512" and not is_intels()
