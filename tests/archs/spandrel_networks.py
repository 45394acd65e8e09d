"""spandrel's own SwinIR, HAT and Swin2SR: an independent implementation to compare with."""

import importlib

import torch


def spandrel_class(name):
    return getattr(importlib.import_module(f"spandrel.architectures.{name}.__arch.{name}"), name)


def randomise(network):
    """Move every weight away from its start, so that none is 0 or 1 by chance."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return network.eval()
