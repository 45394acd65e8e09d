"""A network through torch.compile, for many tiles of one shape.

Each shape is compiled by itself, which took 26 s of CPU time for swinir_tiny and more than 40 s for hriusr_tiny; one
graph for all sizes had not come to an end after fifteen minutes (experiments/LOG.md). From the ninth shape on PyTorch
runs the plain network.
"""

import os
import shutil

import torch
from torch import nn

from hriusr.errors import HriusrError

COMPILERS = ("g++", "c++", "clang++", "cl")


def compile_network(network: nn.Module) -> nn.Module:
    """Return the network, to be compiled when it first runs.

    Args:
        network: its attributes and parameters stay reachable through the result.

    Raises:
        HriusrError: no C++ compiler is there, which torch.compile needs on a CPU and for its helpers on a GPU, or
            PyTorch has no backend for this system.
    """
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    if not any(shutil.which(name) for name in compilers):
        raise HriusrError(
            f"compiling a network needs a C++ compiler, and none of {', '.join(compilers)} is there: install g++ "
            "(Debian, Ubuntu: apt install g++), or name one in the variable CXX, or do not compile"
        )
    return torch.compile(network, dynamic=False)
