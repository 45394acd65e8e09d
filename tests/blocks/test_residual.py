"""Branches that do norm and sum on their way, without gradients, against the whole map's with them."""

import pytest
import torch
from torch import nn

from hriusr.blocks import cpu_attention_plan, feed_forward, gated_feed_forward
from hriusr.blocks.cosine_attention import CosineWindowAttention
from hriusr.blocks.drop_path import DropPath
from hriusr.blocks.feed_forward import Mlp
from hriusr.blocks.gated_feed_forward import GatedConvMlp
from hriusr.blocks.hriu import HRIU
from hriusr.blocks.norms import InstanceNorm
from hriusr.blocks.residual import add_branch
from hriusr.blocks.shared_hriu import SharedHRIU
from hriusr.blocks.window_attention import WindowAttention

DIM = 8
BRANCHES = {
    "windows": lambda: WindowAttention(DIM, 4, 2),
    "shifted-windows": lambda: WindowAttention(DIM, 4, 2, shift_size=2),
    "cosines": lambda: CosineWindowAttention(DIM, 4, 2, shift_size=1),
    "hriu": lambda: HRIU(DIM, 2, 4, shift_size=2),
    "l2": lambda: HRIU(DIM, 2, 4, shift_size=2, renorm="l2"),
    "shared": lambda: SharedHRIU(DIM, 2, 4, shift_size=3, similarity="cosine"),
    "squeezed": lambda: SharedHRIU(DIM, 2, 4, shift_size=1, squeeze_ratio=2),
    "mlp": lambda: Mlp(DIM, 12),
    "gated": lambda: GatedConvMlp(DIM, 6, 3),
}


@pytest.mark.parametrize("is_norm_last", [False, True], ids=["norm-first", "norm-last"])
@pytest.mark.parametrize("name", BRANCHES)
def test_sums_on_the_way_equal_those_of_the_whole_map(monkeypatch, name, is_norm_last):
    monkeypatch.setattr(feed_forward, "_PART_BYTES", 4 * 12 * 50)
    monkeypatch.setattr(cpu_attention_plan, "_CHUNK_BYTES", 1 << 14)
    monkeypatch.setattr(gated_feed_forward, "_STRIP_BYTES", 4 * 6 * 2 * 24 * 3)
    torch.manual_seed(0)
    branch, norm = BRANCHES[name](), nn.LayerNorm(DIM)
    for parameter in [*branch.parameters(), *norm.parameters()]:
        nn.init.normal_(parameter, std=0.5)
    x_BHWC = torch.randn(2, 16, 24, DIM)
    expected = x_BHWC + (norm(branch(x_BHWC)) if is_norm_last else branch(norm(x_BHWC)))
    maps_normed = []
    norm.register_forward_hook(lambda _, args, __: maps_normed.append(args[0].shape == x_BHWC.shape))
    with torch.no_grad():
        y_BHWC = add_branch(x_BHWC, branch, norm, DropPath(), is_norm_last=is_norm_last)
    torch.testing.assert_close(y_BHWC, expected, atol=1e-4, rtol=1e-4)
    if name != "l2":  # which has no way by parts
        assert len(maps_normed) > 1
        assert not any(maps_normed)


def test_norms_over_the_map_and_dropped_paths_see_it_whole():
    torch.manual_seed(0)
    x_BHWC, branch = torch.randn(2, 8, 8, DIM), Mlp(DIM, 12)
    norm = InstanceNorm(DIM)
    with torch.no_grad():
        assert torch.allclose(add_branch(x_BHWC, branch, norm, DropPath()), x_BHWC + branch(norm(x_BHWC)), atol=1e-6)
        dropped = add_branch(torch.ones(200, 1, 1, DIM), branch, nn.LayerNorm(DIM), DropPath(0.5))
    assert 0 < (dropped == 1).all(-1).sum() < 200
