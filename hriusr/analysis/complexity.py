"""What a network costs: parameters and Multi-Adds.

Multi-Adds by the rule of newer papers (fvcore's): multiply-accumulates of convolutions, linear layers and matrix
products, one for each place of an involution's kernel, and 5 operations for each value that a LayerNorm puts out;
activations, softmax and additions are free, and so are the masks of shifted windows. The network's own padding counts:
320 x 180 with window 8 costs what 320 x 184 does.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_OUTPUT_HEIGHT, _OUTPUT_WIDTH = 720, 1280  # the field's size for comparing light networks
_LAYER_NORM_OPERATIONS = 5


def count_parameters(network: nn.Module) -> int:
    """Return the number of learned values of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_multi_adds(network: nn.Module, height: int | None = None, width: int | None = None) -> int:
    """Count the multiply-adds of one forward pass over one picture, without computing it.

    Args:
        network: registered network, with .upscale and .in_chans; on any device, not changed.
        height: rows of the low-resolution picture; by default those of an output of 1280 x 720, rounded up.
        width: columns of it; likewise.

    Returns:
        Multiply-adds; divide by 1e9 for the G of tables.
    """
    height = height or math.ceil(_OUTPUT_HEIGHT / network.upscale)
    width = width or math.ceil(_OUTPUT_WIDTH / network.upscale)
    network = copy.deepcopy(network).to("meta").eval().requires_grad_(False)
    for module in network.modules():
        if getattr(module, "regions", None) is not None:
            module.regions = None  # masks travel as channels of query and key, which would count
    counter = FlopCounterMode(display=False, custom_mapping=_FLOP_FORMULAS)
    with counter, torch.enable_grad():  # without gradients attention would go through in chunks, one call each
        network(torch.empty(1, network.in_chans, height, width, device="meta"))
    return counter.get_total_flops() // 2


def _layer_norm_flops(x_shape: tuple[int, ...], *_arguments: object, **_more: Tensor) -> int:
    return 2 * _LAYER_NORM_OPERATIONS * math.prod(x_shape)


def _addcmul_flops(x_shape: tuple[int, ...], *_shapes: object, out_shape: tuple[int, ...], **_more: object) -> int:
    """Count one multiply-add (two operations) a value: else the sums of blocks/involution.py would seem free."""
    return 2 * math.prod(out_shape)


_FLOP_FORMULAS = {torch.ops.aten.native_layer_norm: _layer_norm_flops, torch.ops.aten.addcmul: _addcmul_flops}
