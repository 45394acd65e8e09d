"""HRIU with shared projections: brute force, squeezed keys, windows that are moved."""

import pytest
import torch
import torch.nn.functional as F

from hriusr.blocks.shared_hriu import SharedHRIU

DIM, HEADS, SIDE = 16, 2, 4


def _brute_force(unit: SharedHRIU, x_PPC: torch.Tensor) -> torch.Tensor:
    """Attend in one window, pair by pair, from the formula in the module's docstring."""
    ratio, side, head_dim = unit.squeeze_ratio, unit.source_side, DIM // HEADS
    scores, terms = unit.scores, unit.terms
    query = unit.query(x_PPC).unflatten(-1, (HEADS, head_dim))
    if unit.logit_scale is not None:
        length = (unit.logit_scale.exp() * head_dim**0.5) ** 0.5
        query = F.normalize(query, dim=-1) * length
    parts = unit.key_value(x_PPC).unflatten(-1, (2, DIM // ratio**2))
    cells = {}
    for row in range(side):
        for column in range(side):
            block = parts[row * ratio : (row + 1) * ratio, column * ratio : (column + 1) * ratio]
            # channels: squeezed channel first, then the pixels of the cell
            cells[row, column] = block.permute(2, 3, 0, 1).flatten(1).unflatten(-1, (HEADS, head_dim))
    y = torch.empty(*x_PPC.shape[:2], HEADS, head_dim)
    for oy in range(side * ratio):
        for ox in range(side * ratio):
            for h in range(HEADS):
                logits, values = [], []
                for (iy, ix), (key, value) in cells.items():
                    ty, tx = scores.rows.index(oy, iy), scores.columns.index(ox, ix)
                    s = 0
                    q, k = query[oy, ox, h], key[h]
                    if unit.logit_scale is not None:
                        k = F.normalize(k, dim=0) * length[h]
                    if "a" in terms:
                        s = s + q @ k
                    if "n" in terms:
                        s = s + q @ (scores.involution_rows[h, ty] + scores.involution_columns[h, tx])
                    if "m" in terms:
                        s = s + (scores.imprinting_rows[h, ty] + scores.imprinting_columns[h, tx]) @ k
                    logits.append(s * head_dim**-0.5 + scores.bias_table[h, ty, tx])
                    values.append(value[h])
                y[oy, ox, h] = torch.stack(logits).softmax(0) @ torch.stack(values)
    return unit.project_out(y.flatten(2))


@pytest.mark.parametrize("squeeze_ratio", [1, 2])
@pytest.mark.parametrize("terms", ["a", "an", "anm"])
@pytest.mark.parametrize("similarity", ["product", "cosine"])
def test_equals_brute_force(terms, squeeze_ratio, similarity):
    torch.manual_seed(0)
    unit = SharedHRIU(DIM, HEADS, SIDE, squeeze_ratio=squeeze_ratio, terms=terms, similarity=similarity)
    if unit.logit_scale is not None:
        unit.logit_scale.data += torch.tensor([[0.3], [-0.5]])
    x = torch.randn(1, SIDE * squeeze_ratio, SIDE * squeeze_ratio, DIM)
    torch.testing.assert_close(unit(x)[0], _brute_force(unit, x[0]))


@pytest.mark.parametrize("squeeze_ratio", [1, 2])
@pytest.mark.parametrize(
    ("terms", "tables"), [("a", "axial"), ("n", "axial"), ("m", "full"), ("anm", "axial"), ("anm", "crossed")]
)
@pytest.mark.parametrize("similarity", ["product", "cosine"])
def test_both_ways_have_equal_outputs_and_gradients(terms, tables, squeeze_ratio, similarity, monkeypatch):
    """The one for CPUs, and the one that is left for other devices and for compilers."""
    torch.manual_seed(0)
    more = {"terms": terms, "tables": tables, "similarity": similarity}
    unit = SharedHRIU(DIM, HEADS, SIDE, squeeze_ratio=squeeze_ratio, shift_size=2, **more)
    x = torch.randn(2, 16, 24, DIM)
    found = []
    for is_by_parts in (True, False):
        monkeypatch.setattr("hriusr.blocks.shared_hriu.runs_by_parts", lambda _x, value=is_by_parts: value)
        unit.zero_grad()
        y = unit(x)
        y.square().sum().backward()
        found.append([y.detach(), *(parameter.grad for parameter in unit.parameters())])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_scores_of_cosines_do_not_depend_on_the_size_of_features():
    torch.manual_seed(0)
    unit = SharedHRIU(DIM, HEADS, SIDE, similarity="cosine")
    for layer in (unit.query, unit.key_value):
        torch.nn.init.zeros_(layer.bias)
    torch.nn.init.zeros_(unit.project_out.bias)
    x = torch.randn(1, SIDE, SIDE, DIM)
    torch.testing.assert_close(unit(50 * x), 50 * unit(x), rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.float16):  # squares of features of 1000 are beyond fp16
        assert unit(1000 * x).isfinite().all()


def test_attends_as_well_without_gradients():
    """That is another way through attention_core.py: masks for the cut, a few windows at a time."""
    torch.manual_seed(0)
    unit = SharedHRIU(DIM, HEADS, SIDE, squeeze_ratio=2, shift_size=2)
    x = torch.randn(2, 24, 32, DIM)
    torch.testing.assert_close(unit(x).detach(), torch.no_grad()(unit)(x))


def test_moved_windows_do_not_look_across_the_edge():
    torch.manual_seed(0)
    unit = SharedHRIU(DIM, HEADS, SIDE, squeeze_ratio=2, shift_size=2)
    x = torch.randn(1, 16, 16, DIM)
    changed = x.clone()
    changed[:, :4] = 0  # rows 0 to 3 lie in one rolled window with rows 12 to 15
    difference = (unit(x) - unit(changed)).abs().amax((0, 2, 3))
    assert difference[:4].min() > 1e-4
    assert difference[4:].max() == 0


def test_refuses_what_cannot_be_squeezed():
    with pytest.raises(ValueError, match=r"dim \(=16\).*squeeze_ratio \(=3\)"):
        SharedHRIU(DIM, HEADS, SIDE, squeeze_ratio=3)
