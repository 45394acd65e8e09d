"""HRIU against its definition pair by pair in float64, against Swin attention, and against the original's faults."""

import copy

import pytest
import torch
from torch import nn

from hriusr.blocks.hriu import HRIU, Memory
from hriusr.blocks.relative import AxisGeometry
from hriusr.blocks.window_attention import WindowAttention

ALL_TERMS = ["a", "n", "m", "an", "am", "nm", "anm"]


def _randomised(unit: HRIU) -> HRIU:
    for parameter in unit.parameters():
        nn.init.normal_(parameter, std=0.4)
    return unit.double()


def _offsets(axis, target, source):
    """Table entry of each pair along one axis, by the formula of the geometry."""
    return torch.tensor([[axis.index(o, i) for i in source] for o in target])


def _table_vectors(scores, kind, head, y, x):
    """Relative vectors (P, N, d) of all pairs, gathered one by one."""
    if scores.tables == "full":
        return getattr(scores, f"{kind}_table")[head][y, x]
    rows, columns = getattr(scores, f"{kind}_rows"), getattr(scores, f"{kind}_columns")
    if scores.tables == "crossed" and {"n", "m"} <= set(scores.terms):
        return rows[head][y] if kind == "involution" else columns[head][x]
    return rows[head][y] + columns[head][x]


def _brute_scores(scores, parts, source_size, target_size, prefix=""):
    """Return the (P, N) scores of one head of one window: the sum of four terms, a pair at a time."""
    terms, scale, head = scores.terms, scores.scale, parts["head"]
    sources = [divmod(i, source_size[1]) for i in range(source_size[0] * source_size[1])]
    targets = [divmod(o, target_size[1]) for o in range(target_size[0] * target_size[1])]
    y = _offsets(scores.rows, [o[0] for o in targets], [i[0] for i in sources])
    x = _offsets(scores.columns, [o[1] for o in targets], [i[1] for i in sources])
    s = scores.bias_table[head][y, x].clone()
    if "a" in terms:
        s += scale * (parts[f"{prefix}q1"][:, None] * parts["k1"][None]).sum(-1)
    if "n" in terms:
        s += scale * (parts[f"{prefix}q2"][:, None] * _table_vectors(scores, "involution", head, y, x)).sum(-1)
    if "m" in terms:
        s += scale * (_table_vectors(scores, "imprinting", head, y, x) * parts["k3"][None]).sum(-1)
    return s


def _renorm(scores, keep, renorm):
    if renorm == "l2":
        t = scores * keep
        return t / (t.norm(dim=1, keepdim=True) + 1)
    weights = scores.masked_fill(keep == 0, -torch.inf).softmax(-1)
    return torch.where(keep.any(1, keepdim=True), weights, torch.zeros_like(weights))


def _brute_hriu(unit: HRIU, x, valid=None, memory: Memory | None = None, shift=0):
    """HRIU as its definition says: windows cut by coordinates on the shifted grid, pairs in a loop."""
    batch, height, width, _ = x.shape
    (wh, ww), (ph, pw) = unit.source_size, unit.target_size
    rows, columns = -(-height // wh), -(-width // ww)
    size_y, size_x = rows * wh, columns * ww
    padded = torch.zeros(batch, size_y, size_x, x.shape[-1], dtype=x.dtype)
    padded[:, :height, :width] = x
    counts = torch.zeros(batch, size_y, size_x)
    counts[:, :height, :width] = 1 if valid is None else valid
    out = torch.zeros(batch, rows * ph, columns * pw, unit.project_out.out_features, dtype=x.dtype)
    shift_y, shift_x = (shift if wh > 1 else 0), (shift if ww > 1 else 0)
    for b in range(batch):
        for window in range(rows * columns):
            r, c = divmod(window, columns)
            ys = [(r * wh + i + shift_y) for i in range(wh)]
            xs = [(c * ww + i + shift_x) for i in range(ww)]
            cells = [(y, z) for y in ys for z in xs]
            tys = [(r * ph + i + shift_y * ph // wh) for i in range(ph)]
            txs = [(c * pw + i + shift_x * pw // ww) for i in range(pw)]
            targets = [(y, z) for y in tys for z in txs]
            # neighbours: both wrapped around the border, or both not
            wrapped_cells = torch.tensor([[y >= size_y, z >= size_x] for y, z in cells])
            wrapped_targets = torch.tensor([[y >= rows * ph, z >= columns * pw] for y, z in targets])
            together = (wrapped_targets[:, None] == wrapped_cells).all(-1)
            keep = together * torch.stack([counts[b, y % size_y, z % size_x] for y, z in cells])
            tokens = torch.stack([padded[b, y % size_y, z % size_x] for y, z in cells])
            projected = unit.project_in(tokens).view(len(tokens), len(unit.parts), unit.num_heads, -1)
            outputs = []
            for head in range(unit.num_heads):
                parts = {name: projected[:, k, head] for k, name in enumerate(unit.parts)} | {"head": head}
                s = _brute_scores(unit.scores, parts, unit.source_size, unit.target_size)
                value, mask = parts["value"], keep
                if memory is not None:
                    number = b * rows * columns + window
                    extra = {
                        "head": head,
                        "k1": None if memory.k1 is None else memory.k1[number, head],
                        "k3": None if memory.k3 is None else memory.k3[number, head],
                        "memory_q1": parts.get("memory_q1"),
                        "memory_q2": parts.get("memory_q2"),
                    }
                    s2 = _brute_scores(unit.memory_scores, extra, unit.source_size, unit.target_size, "memory_")
                    s, value = torch.cat((s, s2), 1), torch.cat((value, memory.value[number, head]))
                    extra_mask = (
                        torch.ones(s2.shape) if memory.valid_MN is None else memory.valid_MN[number].expand_as(s2)
                    )
                    mask = torch.cat((mask, extra_mask), 1)
                outputs.append(_renorm(s, mask, unit.renorm) @ value)
            y_out = unit.project_out(torch.cat(outputs, -1))
            for t, (ty, tx) in enumerate(targets):
                out[b, ty % (rows * ph), tx % (columns * pw)] = y_out[t]
    return out[:, : -(-height * ph // wh), : -(-width * pw // ww)]


@pytest.mark.parametrize("tables", ["axial", "crossed", "full"])
@pytest.mark.parametrize("terms", ALL_TERMS)
def test_scores_equal_brute_force(terms, tables):
    unit = _randomised(HRIU(8, 2, (4, 3), terms=terms, tables=tables))
    x = torch.randn(2, 8, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(unit(x), _brute_hriu(unit, x))


@pytest.mark.parametrize("tables", ["axial", "full"])
@pytest.mark.parametrize("renorm", ["softmax", "l2"])
@pytest.mark.parametrize(
    ("source", "target"), [(8, 4), (8, 2), (4, 8), (2, 4), ((4, 2), (2, 4)), ((4, 4), (4, 2)), ((1, 4), (1, 2))]
)
def test_resizing_equals_brute_force(source, target, renorm, tables):
    unit = _randomised(HRIU(6, 2, source, target, out_dim=5, tables=tables, renorm=renorm))
    x = torch.randn(1, 8, 8, 6, dtype=torch.float64)
    torch.testing.assert_close(unit(x), _brute_hriu(unit, x))


@pytest.mark.parametrize("renorm", ["softmax", "l2"])
@pytest.mark.parametrize(("terms", "target"), [("anm", None), ("a", None), ("m", 2)])
@pytest.mark.parametrize("grad", [True, False])
def test_shifted_windows_equal_brute_force(terms, target, renorm, grad):
    unit = _randomised(HRIU(8, 2, 4, target, terms=terms, renorm=renorm, shift_size=2))
    x = torch.randn(2, 8, 12, 8, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(unit(x), _brute_hriu(unit, x, shift=2))


@pytest.mark.parametrize("renorm", ["softmax", "l2"])
@pytest.mark.parametrize(("target", "shift"), [(None, 0), (None, 2), (2, 0), (8, 0)])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1)])
def test_masks_and_odd_sizes_equal_brute_force(size, target, shift, renorm):
    unit = _randomised(HRIU(4, 2, 4, target, renorm=renorm, shift_size=shift))
    x = torch.randn(2, *size, 4, dtype=torch.float64)
    valid = (torch.rand(2, *size) > 0.4).double()
    valid[0, : size[0] // 2] = 0  # whole windows without a key
    torch.testing.assert_close(unit(x), _brute_hriu(unit, x, shift=shift))
    torch.testing.assert_close(unit(x, valid), _brute_hriu(unit, x, valid, shift=shift))


@pytest.mark.parametrize("tables", ["axial", "crossed", "full"])
@pytest.mark.parametrize("terms", ["anm", "am", "n"])
@pytest.mark.parametrize("masked", [False, True])
def test_decoder_equals_brute_force(terms, tables, masked):
    encoder = _randomised(HRIU(8, 2, 4, terms=terms, tables=tables))
    decoder = _randomised(HRIU(8, 2, 4, terms=terms, tables=tables, with_memory=True))
    source, x = torch.randn(2, 1, 8, 4, 8, dtype=torch.float64).unbind(0)
    valid = (torch.rand(1, 8, 4) > 0.3).double() if masked else None
    y, memory = encoder.encode(source, valid)
    torch.testing.assert_close(y, encoder(source, valid))
    torch.testing.assert_close(decoder(x, memory=memory), _brute_hriu(decoder, x, memory=memory))


def test_every_decoder_head_reacts_to_every_memory_head():
    decoder = _randomised(HRIU(8, 2, 4, with_memory=True))
    nn.init.eye_(decoder.project_out.weight)
    _, memory = _randomised(HRIU(8, 2, 4)).encode(torch.randn(1, 4, 4, 8, dtype=torch.float64))
    x = torch.randn(1, 4, 4, 8, dtype=torch.float64)
    before = decoder(x, memory=memory)
    for head in range(2):
        changed = memory._replace(value=memory.value.clone())
        changed.value[:, head] += 1
        difference = (decoder(x, memory=changed) - before).abs().amax((0, 1, 2))
        assert (difference[head * 4 : head * 4 + 4] > 0).all()


@pytest.mark.parametrize("shift", [0, 4])
def test_attention_alone_is_swin_attention(shift):
    unit, swin = HRIU(24, 3, 8, terms="a", shift_size=shift), WindowAttention(24, 8, 3, shift_size=shift)
    nn.init.normal_(unit.scores.bias_table)
    swin.load_state_dict(
        {
            "qkv.weight": unit.project_in.weight,
            "qkv.bias": unit.project_in.bias,
            "proj.weight": unit.project_out.weight,
            "proj.bias": unit.project_out.bias,
            "relative_position_bias_table": unit.scores.bias_table.flatten(1).T,
        }
    )
    x = torch.randn(2, 16, 24, 24)
    torch.testing.assert_close(unit(x), swin(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("terms", "parts"), [("a", 3), ("m", 2), ("n", 2), ("anm", 5), ("nm", 3)])
def test_projection_holds_what_the_terms_need(terms, parts):
    assert HRIU(8, 2, 4, terms=terms).project_in.out_features == parts * 8


def test_validity_of_a_resized_map_is_any_valid_of_its_window():
    unit = HRIU(4, 1, 4, 2)
    valid = torch.zeros(1, 7, 9)
    valid[0, 6, 8] = 1
    out = unit.output_valid(valid)
    assert out.shape == unit(torch.randn(1, 7, 9, 4)).shape[:3] == (1, 4, 5)
    assert out.nonzero().tolist() == [[0, 2, 4], [0, 3, 4]]
    same = HRIU(4, 1, 4)
    assert torch.equal(same.output_valid(valid), valid)


def test_output_is_cropped_to_the_resized_size():
    assert HRIU(4, 1, 8, 4)(torch.randn(1, 13, 9, 4)).shape == (1, 7, 5, 4)
    assert HRIU(4, 1, 4, 8)(torch.randn(1, 3, 5, 4)).shape == (1, 6, 10, 4)


def test_dropout_leaves_the_mask_that_came_in():
    unit = HRIU(4, 1, 4, dropout=0.5).train()
    valid = torch.ones(1, 8, 8)
    x = torch.randn(1, 8, 8, 4)
    first, second = unit(x, valid), unit(x, valid)
    assert valid.min() == 1
    assert not torch.equal(first, second)
    torch.testing.assert_close(unit.eval()(x, valid), unit(x))


def test_tables_are_read_live_after_changes_of_format():
    unit = HRIU(8, 2, 4, tables="full")
    x = torch.randn(1, 8, 8, 8)
    expected = unit(x)
    torch.testing.assert_close(unit.to(memory_format=torch.channels_last)(x), expected)
    torch.testing.assert_close(copy.deepcopy(unit)(x), expected)
    torch.testing.assert_close(unit(x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)), expected)
    with torch.no_grad():
        unit.scores.bias_table[:, 3, 3] += 1
    assert not torch.allclose(unit(x), expected)


def test_zero_is_not_taken_for_missing():
    with pytest.raises(ZeroDivisionError):
        HRIU(8, 0, 4)
    assert HRIU(8, 2, 4, shift_size=0, dropout=0).regions is None


@pytest.mark.parametrize("tables", ["axial", "crossed", "full"])
@pytest.mark.parametrize("target", [None, 2])
def test_every_parameter_gets_a_gradient(tables, target):
    unit = HRIU(8, 2, 4, target, tables=tables, shift_size=2)
    unit(torch.randn(1, 8, 8, 8)).square().sum().backward()
    for name, parameter in unit.named_parameters():
        # A bias of the keys adds the same to all scores of a row: softmax does not see it
        assert parameter.grad.abs().sum() > 0, name


def test_gradients_equal_finite_differences():
    unit = HRIU(4, 2, 2, shift_size=1).double()
    x = torch.randn(1, 4, 2, 4, dtype=torch.float64, requires_grad=True)
    inputs = [x, *unit.parameters()]
    assert torch.autograd.gradcheck(lambda x, *_: unit(x), inputs, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("target", "renorm"), [(None, "softmax"), (None, "l2"), (2, "softmax")])
def test_half_precision_stays_close(dtype, target, renorm):
    unit = HRIU(16, 2, 4, target, shift_size=2, renorm=renorm)
    x = torch.randn(1, 9, 8, 16)
    valid = torch.ones(1, 9, 8)
    valid[:, :, 6:] = 0
    expected = unit(x, valid)
    bound = 0.05 * expected.abs().max()
    assert (unit.to(dtype)(x.to(dtype), valid).float() - expected).abs().max() < bound


def test_autocast_bf16_stays_close_and_trains():
    unit = HRIU(16, 2, 4, shift_size=2)
    x = torch.randn(1, 8, 8, 16)
    expected = unit(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = unit(x)
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).abs().max() < 0.05 * expected.abs().max()
    y.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in unit.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 10, "num_heads": 3}, r"dim \(=10\).*num_heads \(=3\)"),
        ({"terms": "ax"}, r"terms \(='ax'\)"),
        ({"terms": ""}, r"terms \(=''\)"),
        ({"terms": "an", "target_size": 2}, "must be 'm'"),
        ({"window_size": 6, "target_size": 4}, "6 cannot be imprinted onto 4"),
        ({"tables": "sparse"}, r"tables \(='sparse'\).*axial, crossed, full"),
        ({"renorm": "l1"}, r"renorm \(='l1'\).*softmax, l2"),
        ({"window_size": 0}, r"^window_size \(=0\)"),
        ({"shift_size": 4}, r"shift_size \(=4\)"),
        ({"shift_size": 1, "target_size": 2}, "whole pixels"),
    ],
)
def test_wrong_arguments_name_themselves(arguments, message):
    with pytest.raises(ValueError, match=message):
        HRIU(**({"dim": 8, "num_heads": 2, "window_size": 4} | arguments))


def test_memory_is_asked_for_and_refused():
    with pytest.raises(ValueError, match="with_memory"):
        HRIU(8, 2, 4, with_memory=True)(torch.randn(1, 4, 4, 8))
    _, memory = HRIU(8, 2, 4).encode(torch.randn(1, 4, 4, 8))
    with pytest.raises(ValueError, match="with_memory"):
        HRIU(8, 2, 4)(torch.randn(1, 4, 4, 8), memory=memory)


def test_axial_table_is_the_sum_of_its_axes():
    axial, full = HRIU(8, 2, 4, tables="axial"), HRIU(8, 2, 4, tables="full")
    for kind in ("involution", "imprinting"):
        rows, columns = getattr(axial.scores, f"{kind}_rows"), getattr(axial.scores, f"{kind}_columns")
        getattr(full.scores, f"{kind}_table").data = rows.data[:, :, None] + columns.data[:, None]
    own = {k: v for k, v in axial.state_dict().items() if "involution" not in k and "imprinting" not in k}
    full.load_state_dict(own, strict=False)
    x = torch.randn(1, 8, 4, 8)
    torch.testing.assert_close(axial(x), full(x), rtol=1e-5, atol=1e-5)


def test_crossed_tables_are_half_of_axial_ones():
    crossed, axial = HRIU(8, 2, (4, 2), tables="crossed"), HRIU(8, 2, (4, 2))
    missing = axial.load_state_dict(crossed.state_dict(), strict=False).missing_keys
    assert missing == ["scores.involution_columns", "scores.imprinting_rows"]
    for name in missing:
        axial.get_parameter(name).data.zero_()
    x = torch.randn(1, 8, 4, 8)
    torch.testing.assert_close(crossed(x), axial(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("terms", ["an", "am", "m", "a"])
def test_crossed_tables_are_axial_where_there_is_nothing_to_cross(terms):
    crossed, axial = HRIU(8, 2, 4, terms=terms, tables="crossed"), HRIU(8, 2, 4, terms=terms)
    axial.load_state_dict(crossed.state_dict())
    x = torch.randn(1, 8, 4, 8)
    assert torch.equal(crossed(x), axial(x))


def test_overlap_geometry_reads_pixel_offsets():
    axis = AxisGeometry(6, 4, is_overlap=True)
    assert axis.table_size == 9
    assert axis.pairs(torch.arange(9), 0).tolist() == [[o + 5 - i for i in range(6)] for o in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("target", [None, 2])
def test_compiles(target):
    unit = HRIU(8, 2, 4, target, shift_size=2)
    x = torch.randn(1, 8, 8, 8)
    torch.testing.assert_close(torch.compile(unit)(x), unit(x), rtol=1e-4, atol=1e-5)


def test_exports_with_dynamic_sizes():
    unit = HRIU(8, 2, 4, shift_size=2).eval()
    rows, columns = torch.export.Dim("rows", min=2, max=64), torch.export.Dim("columns", min=2, max=64)
    example = torch.randn(1, 12, 16, 8)
    program = torch.export.export(unit, (example,), dynamic_shapes=({1: 4 * rows, 2: 4 * columns},))
    x = torch.randn(1, 20, 8, 8)
    torch.testing.assert_close(program.module()(x), unit(x), rtol=1e-5, atol=1e-5)
