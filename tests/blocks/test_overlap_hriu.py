"""Overlapping HRIU against its definition pair by pair."""

import pytest
import torch
from torch import nn

from hriusr.blocks.overlap_hriu import OverlapHRIU


def _brute_overlap(unit, x, overlap):
    """Each window looks at the pixels of a larger window that lie inside the map."""
    _, height, width, _ = x.shape
    w, before = unit.window_size, overlap // 2
    parts = [*unit.query_parts, *unit.key_parts]
    projected = unit.project_in(x)[0].unflatten(-1, (len(parts), unit.num_heads, -1))
    out = torch.zeros_like(x)
    for y0 in range(0, height, w):
        for x0 in range(0, width, w):
            for oy in range(w):
                for ox in range(w):
                    rows = [y for y in range(y0 - before, y0 - before + w + overlap) if 0 <= y < height]
                    columns = [c for c in range(x0 - before, x0 - before + w + overlap) if 0 <= c < width]
                    heads = []
                    for head in range(unit.num_heads):
                        own = dict(zip(parts, projected[y0 + oy, x0 + ox, :, head], strict=True))
                        scores, values = [], []
                        for y in rows:
                            for c in columns:
                                key = dict(zip(parts, projected[y, c, :, head], strict=True))
                                row = unit.scores.rows.index(oy, y - y0 + before)
                                column = unit.scores.columns.index(ox, c - x0 + before)
                                tables = unit.scores
                                involution = tables.involution_rows[head, row] + tables.involution_columns[head, column]
                                imprinting = tables.imprinting_rows[head, row] + tables.imprinting_columns[head, column]
                                product = own["q1"] @ key["k1"] + own["q2"] @ involution + imprinting @ key["k3"]
                                scores.append(tables.scale * product + tables.bias_table[head, row, column])
                                values.append(key["value"])
                        heads.append(torch.stack(scores).softmax(0) @ torch.stack(values))
                    out[0, y0 + oy, x0 + ox] = unit.project_out(torch.cat(heads))
    return out


def test_equals_its_definition():
    unit = OverlapHRIU(4, 2, 2, 1.0).double()
    for parameter in unit.parameters():
        nn.init.normal_(parameter, std=0.4)
    x = torch.randn(1, 4, 6, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(unit(x), _brute_overlap(unit, x, 2))


@pytest.mark.parametrize("tables", ["axial", "crossed", "full"])
@pytest.mark.parametrize("terms", ["a", "n", "m", "nm", "anm"])
def test_every_term_runs_and_learns(terms, tables):
    unit = OverlapHRIU(8, 2, 4, 0.5, terms=terms, tables=tables)
    x = torch.randn(2, 8, 4, 8)
    y = unit(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in unit.parameters())
