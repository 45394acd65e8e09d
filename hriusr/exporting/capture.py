"""One graph of a network for pictures of any size: as an exported program, and as TorchScript.

PyTorch captures a graph with an example in which every size that may vary is at least two windows: a size of 1 would be
taken for one that broadcasts. The graph itself holds for one window too, and so for pictures of a single pixel; what
says otherwise are only the assumptions noted beside it, which are taken away here. Whoever writes a graph to a file
compares it with the network at such sizes (exporting/check.py).
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from hriusr.upscaling.tile_plan import network_alignment

INPUT_NAME, OUTPUT_NAME = "lr", "sr"
DYNAMIC_AXES = {0: "batch", 2: "height", 3: "width"}
_SMALLEST_MULTIPLE = 8  # so that examples of networks without windows are no thinner than their convolutions


class Served(nn.Module):
    """A network as a file serves it: pictures go in and come out in fp32, whatever its weights are stored in.

    Args:
        network: put into evaluation mode.
        dtype: what its weights are cast to.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.network = network.eval().to(dtype).requires_grad_(False)
        self.dtype = dtype

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge pictures (B, C, H, W), 0..1."""
        return self.network(lr.to(self.dtype)).float()


def example_picture(network: nn.Module, num_channels: int) -> Tensor:
    """Return (2, num_channels, H, W) of more than two windows, H and W different and no multiple of a window."""
    multiple = max(network_alignment(network), _SMALLEST_MULTIPLE)
    return torch.rand(2, num_channels, 2 * multiple + 5, 3 * multiple + 7)


@contextlib.contextmanager
def exporting_branches() -> Iterator[None]:
    """Make torch.compiler.is_exporting() true, as inside torch.export: blocks then take their size-free branches."""
    with (
        mock.patch.object(torch.compiler, "_is_exporting_flag", True),
        mock.patch.object(torch.compiler, "_is_compiling_flag", True),
    ):
        yield


@contextlib.contextmanager
def exporters_quiet() -> Iterator[None]:
    """Hide what exporters say of their own making: deprecations, shapes that tracing writes down, conversions."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def capture_program(served: Served, example: Tensor) -> torch.export.ExportedProgram:
    """Capture a network by torch.export, for any batch, height and width from 1 on.

    Args:
        served: the network.
        example: see example_picture.
    """
    least = {0: 1, 2: example.shape[2] - 4, 3: example.shape[2] - 4}  # two windows and a pixel
    dims = {axis: torch.export.Dim(name, min=least[axis]) for axis, name in DYNAMIC_AXES.items()}
    with exporters_quiet():
        program = torch.export.export(
            served,
            (example,),
            dynamic_shapes=(dims,),
            prefer_deferred_runtime_asserts_over_guards=True,  # that views of whole windows fit cannot be proven
        )
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    for symbol in program.range_constraints:
        program.range_constraints[symbol] = ValueRanges(1, int_oo)
    return program


def trace_script(served: Served, example: Tensor) -> torch.jit.ScriptModule:
    """Trace a network to TorchScript, sizes included.

    Args:
        served: the network.
        example: see example_picture.
    """
    with exporters_quiet(), exporting_branches(), torch.no_grad():
        return torch.jit.trace(served, (example,), check_trace=False)
