"""Activation checkpointing: keep a block's input only, compute its inside again on the way back (arXiv:1604.06174)."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_block(block: nn.Module, x: Tensor, use_checkpoint: bool) -> Tensor:
    """Run a block, recomputed in the backward pass where use_checkpoint is set and gradients are wanted.

    The result and the gradients are the same either way; dropped paths are dropped again by the same random numbers.
    """
    if use_checkpoint and torch.is_grad_enabled():
        return checkpoint(block, x, use_reentrant=False)
    return block(x)
