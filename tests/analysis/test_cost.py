"""Seconds and bytes of a pass, measured in a process of its own."""

import psutil
import pytest
import torch

from hriusr.analysis.cost import measure_cost
from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.errors import HriusrError
from hriusr.upscaling.memory_plan import WORKSPACE, bytes_per_pixel

SWINIR = VARIANTS["swinir_tiny_x2"].network_opt()
EVEN_ALONE = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "scale": 2}


def test_peak_memory_agrees_with_the_tensors_that_lived():
    """Two ways of counting: the kernel's high-water mark, and the sizes of all tensors while they exist."""
    side = 320
    measured = measure_cost(SWINIR, side, side, threads=1, runs=1)
    network = build_network(SWINIR)
    counted = bytes_per_pixel(network, scale=2, device=torch.device("cpu")) / WORKSPACE * side**2
    # .60 to .67 measured: pages that the process held before the pass are used again
    assert 0.45 * counted < measured.forward.pass_bytes < 2.5 * counted
    assert measured.forward.peak_bytes > measured.forward.pass_bytes + 50e6  # Python and PyTorch are in it


def test_backward_pass_needs_more_and_the_callers_memory_does_not_count():
    ballast = torch.ones(100_000_000)  # 400 MB; a child may inherit its parent's high-water mark
    seen = []
    measured = measure_cost(
        SWINIR, 128, 128, threads=1, runs=2, with_training=True, progress=lambda *arguments: seen.append(arguments)
    )
    assert ballast[0] == 1
    assert measured.forward.peak_bytes < psutil.Process().memory_info().rss
    assert measured.train.pass_bytes > 2 * measured.forward.pass_bytes
    assert min(measured.train.cpu_seconds) > max(measured.forward.cpu_seconds)
    assert seen == [(name, done, 3) for name in ("forward", "train") for done in (1, 2, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "abacus"}, "abacus"),
        ({"network": SWINIR | {"type": "SwinIRR"}}, "did you mean 'SwinIR'"),
        (
            {"network": EVEN_ALONE, "height": 9, "width": 8},
            "does not take pictures of 8x9 pixels .*: try another --size",
        ),
        ({"height": 10**7, "width": 10**7}, "the memory is not enough: .*; try a smaller --size"),
    ],
)
def test_what_cannot_be_measured_is_said(arguments, message):
    with pytest.raises(HriusrError, match=message):
        measure_cost(**{"network": SWINIR, "height": 8, "width": 8} | arguments)


def test_process_that_dies_is_reported(monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(RuntimeError, match="status 1"):
        measure_cost(SWINIR, 8, 8)
