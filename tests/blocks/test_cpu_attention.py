"""Attention by parts on a CPU against the same units computed whole, and what it keeps."""

import pytest
import torch
from torch import nn

from hriusr.blocks import cpu_attention, hriu, overlap_attention, overlap_hriu, shared_hriu, window_attention
from hriusr.blocks.hriu import HRIU
from hriusr.blocks.overlap_attention import OCAB
from hriusr.blocks.overlap_hriu import OverlapHRIU
from hriusr.blocks.shared_hriu import SharedHRIU
from hriusr.blocks.window_attention import WindowAttention

MODULES = (hriu, overlap_attention, overlap_hriu, shared_hriu, window_attention)
UNITS = {
    "hriu": lambda: HRIU(8, 2, (4, 2)),
    "hriu shifted": lambda: HRIU(8, 2, 4, shift_size=2),
    "hriu nm": lambda: HRIU(8, 2, 4, terms="nm"),
    "hriu a": lambda: HRIU(8, 2, 4, terms="a"),
    "hriu crossed": lambda: HRIU(8, 2, (4, 2), tables="crossed", shift_size=1),
    "hriu a shifted": lambda: HRIU(8, 2, (4, 2), terms="a", shift_size=1),
    "shared a": lambda: SharedHRIU(8, 2, 4, terms="a", similarity="cosine", shift_size=3),
    "hriu full": lambda: HRIU(8, 2, (4, 2), tables="full"),
    "hriu full n": lambda: HRIU(8, 2, 4, tables="full", terms="n", shift_size=2),
    "shrinking full": lambda: HRIU(8, 2, 4, 2, tables="full"),
    "growing full": lambda: HRIU(8, 2, (2, 4), (4, 2), tables="full"),
    "overlapping full": lambda: OverlapHRIU(8, 2, 4, 0.5, tables="full"),
    "shrinking": lambda: HRIU(8, 2, 4, 2, out_dim=6, shift_size=2),
    "growing": lambda: HRIU(8, 2, 2, 4),
    "shared": lambda: SharedHRIU(8, 2, 4, shift_size=2),
    "shared m": lambda: SharedHRIU(8, 2, 4, terms="m"),
    "shared n": lambda: SharedHRIU(8, 2, 4, terms="n"),
    "shared crossed": lambda: SharedHRIU(8, 2, 2, squeeze_ratio=2, tables="crossed"),
    "shared full": lambda: SharedHRIU(8, 2, 4, tables="full"),
    "shared cosine": lambda: SharedHRIU(8, 2, 2, squeeze_ratio=2, similarity="cosine", shift_size=1),
    "shared squeezed": lambda: SharedHRIU(8, 2, 2, squeeze_ratio=2, shift_size=1),
    "plain": lambda: WindowAttention(8, 4, 2, shift_size=2),
    "overlapping": lambda: OverlapHRIU(8, 2, 4, 0.5),
    "overlapping crossed": lambda: OverlapHRIU(8, 2, 4, 0.5, tables="crossed"),
    "overlapping m": lambda: OverlapHRIU(8, 2, 4, 0.5, terms="m"),
    "ocab": lambda: OCAB(8, 4, 0.5, 2),
}


def _results(unit, x):
    """Outputs without gradients and with them, and the gradients of all that learns."""
    with torch.no_grad():
        still = unit(x)
    y = unit(x)
    return [still, y, *torch.autograd.grad(y.sin().sum(), [x, *unit.parameters()])]


@pytest.mark.parametrize("windows_at_once", [1, 4, 100])
@pytest.mark.parametrize("name", UNITS)
def test_parts_equal_the_whole_forward_and_backward(name, windows_at_once, monkeypatch):
    unit = UNITS[name]().double()
    for parameter in unit.parameters():
        nn.init.normal_(parameter, std=0.4)
    x = torch.randn(2, 8, 12, 8, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(cpu_attention.AttentionPlan, "windows_at_once", lambda *_: windows_at_once)
    by_parts = _results(unit, x)
    for module in MODULES:
        monkeypatch.setattr(module, "runs_by_parts", lambda _: False)
    whole = _results(unit, x)
    for part, one in zip(by_parts, whole, strict=True):
        torch.testing.assert_close(part, one)


@pytest.mark.parametrize("fuses", [True, False])
@pytest.mark.parametrize("name", ["hriu a", "hriu a shifted", "shared a", "plain", "ocab"])
def test_plain_attention_is_the_same_by_torchs_own_and_by_products(name, fuses, monkeypatch):
    unit = UNITS[name]()
    for parameter in unit.parameters():
        nn.init.normal_(parameter, std=0.4)
    x = torch.randn(2, 8, 12, 8)
    monkeypatch.setattr(cpu_attention, "_fuses", lambda _: fuses)
    with torch.no_grad():
        by_parts = unit(x)
        for module in MODULES:
            monkeypatch.setattr(module, "runs_by_parts", lambda _: False)
        torch.testing.assert_close(by_parts, unit(x))


@pytest.mark.parametrize("name", ["hriu shifted", "shared", "plain", "overlapping", "ocab"])
def test_gradients_in_bf16_stay_close(name):
    unit = UNITS[name]()
    x = torch.randn(2, 8, 12, 8, requires_grad=True)
    exact = _results(unit, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = _results(unit, x)
    for part, one in zip(rough, exact, strict=True):
        assert (part.float() - one).abs().max() <= 0.06 * one.abs().max() + 1e-6


def test_gradients_in_bf16_stand_values_with_much_in_common():
    unit = SharedHRIU(64, 2, 8)
    nn.init.constant_(unit.key_value.bias[64:], 3.0)
    x = torch.randn(2, 16, 16, 64, requires_grad=True)
    exact = _results(unit, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = _results(unit, x)
    for part, one in zip(rough, exact, strict=True):
        assert (part.float() - one).norm() <= 0.025 * one.norm() + 1e-4


@pytest.mark.parametrize(("bias", "share"), [(-800.0, 1.0), (800.0, 0.5), (float("nan"), 1.0)])
def test_scores_whose_exponentials_are_too_large_or_small_are_weighed_by_softmax(bias, share, monkeypatch):
    unit = SharedHRIU(8, 2, 4, shift_size=2).double()
    with torch.no_grad():
        unit.scores.bias_table[torch.rand_like(unit.scores.bias_table) < share] += bias
    x = torch.randn(2, 8, 12, 8, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(cpu_attention.AttentionPlan, "windows_at_once", lambda *_: 4)
    by_parts = _results(unit, x)
    monkeypatch.setattr(shared_hriu, "runs_by_parts", lambda _: False)
    for part, one in zip(by_parts, _results(unit, x), strict=True):
        torch.testing.assert_close(part, one, equal_nan=True)


def test_one_window_of_large_scores_does_not_spoil_those_after_it(monkeypatch):
    unit = WindowAttention(8, 4, 2)
    x = torch.randn(1, 4, 40, 8)
    with torch.no_grad():
        for windows_at_once in (1, 3):
            monkeypatch.setattr(cpu_attention.AttentionPlan, "windows_at_once", lambda *_, n=windows_at_once: n)
            large = x.clone()
            large[:, :, 4:8] *= 1e3
            rest = torch.cat((unit(large)[:, :, :4], unit(large)[:, :, 8:]), 2)
            torch.testing.assert_close(rest, torch.cat((unit(x)[:, :, :4], unit(x)[:, :, 8:]), 2))


@pytest.mark.parametrize("name", ["shared", "plain", "hriu full"])
def test_fp16_is_computed_on_a_cpu(name):
    unit = UNITS[name]()
    x = torch.randn(1, 8, 12, 8)
    with torch.no_grad():
        exact, rough = unit(x), unit.half()(x.half()).float()
    assert (rough - exact).abs().max() <= 0.01 * exact.abs().max()


def test_nothing_but_weights_is_kept_that_grows_with_the_scores():
    unit = HRIU(16, 2, 8)
    kept = []

    def note(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        unit(torch.randn(1, 32, 32, 16))
    num_windows, scores_per_window = 16, 2 * 64 * 64
    assert sum(tensor.numel() >= num_windows * scores_per_window for tensor in kept) == 1


def test_a_backward_pass_can_be_repeated():
    unit = HRIU(8, 2, 4)
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    loss = unit(x).square().sum()
    first, second = (torch.autograd.grad(loss, [x, *unit.parameters()], retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["hriu shifted", "hriu full", "overlapping"])
def test_one_graph_has_the_same_outputs_and_gradients(name):
    unit = UNITS[name]().double()
    x = torch.randn(1, 8, 12, 8, dtype=torch.float64)
    traced = torch.compile(unit, backend="aot_eager", fullgraph=True)
    results = []
    for compute in (traced, unit):
        y = compute(x)
        results.append([y, *torch.autograd.grad(y.sin().sum(), list(unit.parameters()))])
    for graph, eager in zip(*results, strict=True):
        torch.testing.assert_close(graph, eager)
