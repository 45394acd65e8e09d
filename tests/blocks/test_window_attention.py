"""Window attention against torchvision's Swin implementation and a loop over pairs."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.models.swin_transformer import ShiftedWindowAttention

from hriusr.blocks.attention_core import attend
from hriusr.blocks.relative import AxisGeometry
from hriusr.blocks.window_attention import WindowAttention


def _torchvision_twin(unit, dim, window, heads, shift):
    twin = ShiftedWindowAttention(dim, [window, window], [shift, shift], heads)
    twin.load_state_dict(unit.state_dict(), strict=False)
    return twin


# torchvision drops the shift of an axis with a single window; Swin's own rule, and ours, keeps it
@pytest.mark.parametrize(
    ("shift", "height", "width"), [(0, 16, 24), (0, 8, 16), (0, 32, 8), (4, 16, 24), (3, 16, 24), (4, 32, 16)]
)
@pytest.mark.parametrize("with_grad", [True, False])
def test_equals_torchvision(shift, height, width, with_grad):
    unit = WindowAttention(24, 8, 3, shift_size=shift)
    torch.nn.init.normal_(unit.relative_position_bias_table)
    x = torch.randn(2, height, width, 24)
    twin = _torchvision_twin(unit, 24, 8, 3, shift)
    with torch.set_grad_enabled(with_grad):
        torch.testing.assert_close(unit(x), twin(x), rtol=1e-5, atol=1e-5)


class _Allocations(TorchDispatchMode):
    """Adds up the bytes of the storages that operations make."""

    def __init__(self):
        super().__init__()
        self.storages = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):  # kept, so that no address is used twice
                self.storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return result

    @property
    def bytes(self):
        return sum(storage.nbytes() for storage in self.storages.values())


@pytest.mark.parametrize("with_grad", [True, False])
def test_shift_makes_no_mask_of_the_map(with_grad):
    """HAT's code makes one of (windows, N, N) on every forward: 17 MB here."""
    made = []
    for shift in (0, 8):
        unit = WindowAttention(8, 16, 2, shift_size=shift)
        with torch.set_grad_enabled(with_grad), _Allocations() as allocations:
            unit(torch.randn(1, 128, 128, 8))
        made.append(allocations.bytes)
    assert made[1] - made[0] < 0.5 * 4 * 64 * 256 * 256


def test_exported_unit_takes_other_sizes():
    """The number of windows must not become a constant of the graph."""
    unit = WindowAttention(8, 4, 2, shift_size=2).eval()
    sizes = {1: 4 * torch.export.Dim("rows", min=2, max=64), 2: 4 * torch.export.Dim("columns", min=2, max=64)}
    program = torch.export.export(unit, (torch.randn(1, 12, 20, 8),), dynamic_shapes=(sizes,))
    x = torch.randn(1, 8, 24, 8)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), unit(x))


@pytest.mark.parametrize("renorm", ["softmax", "l2"])
def test_chunks_equal_one_piece(renorm, monkeypatch):
    q, k, v = (torch.randn(7, 2, 16, 4) for _ in range(3))
    bias = torch.randn(2, 16, 16)
    whole = attend(q, k, v, bias, renorm=renorm)
    monkeypatch.setattr("hriusr.blocks.attention_core._CHUNK_BYTES", 4096)
    with torch.no_grad():
        torch.testing.assert_close(attend(q, k, v, bias, renorm=renorm), whole)


def test_fused_equals_explicit():
    unit = WindowAttention(24, 4, 3, shift_size=2)
    x = torch.randn(1, 8, 8, 24)
    q, k, v = (torch.randn(3, 2, 16, 7) for _ in range(3))
    bias = torch.randn(2, 16, 16)
    torch.testing.assert_close(attend(q, k, v, bias, fused=True), attend(q, k, v, bias, fused=False))
    assert unit(x).shape == x.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(dtype):
    unit = WindowAttention(24, 8, 3, shift_size=4)
    x = torch.randn(1, 16, 16, 24)
    expected = unit(x)
    actual = unit.to(dtype)(x.to(dtype)).float()
    assert (actual - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.parametrize(
    ("source", "target", "table_size", "first_row"),
    [(4, 4, 7, [3, 2, 1, 0]), (4, 2, 6, [3, 2, 1, 0]), (2, 4, 6, [2, 0]), (8, 4, 14, None), (8, 2, 12, None)],
)
def test_table_geometry(source, target, table_size, first_row):
    axis = AxisGeometry(source, target)
    assert axis.table_size == table_size
    if first_row:
        assert [axis.index(0, i) for i in range(source)] == first_row
    pairs = axis.pairs(torch.arange(table_size), 0)
    assert pairs.tolist() == [[axis.index(o, i) for i in range(source)] for o in range(target)]
    assert {axis.index(o, i) for o in range(target) for i in range(source)} == set(range(table_size))


def test_misaligned_windows_are_refused():
    with pytest.raises(ValueError, match="6 cannot be imprinted onto 4"):
        AxisGeometry(6, 4)


def test_wrong_head_count_names_both():
    with pytest.raises(ValueError, match=r"dim \(=10\).*num_heads \(=3\)"):
        WindowAttention(10, 8, 3)
