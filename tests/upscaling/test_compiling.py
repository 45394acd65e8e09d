"""A compiled network keeps what tiles ask of it, and says what it lacks before anything is computed."""

import pytest
import torch
from torch import nn

from hriusr.errors import HriusrError
from hriusr.upscaling.compiling import compile_network
from hriusr.upscaling.tile_plan import network_alignment
from hriusr.upscaling.tiling import tile_upscale


class Small(nn.Module):
    upscale, in_chans, size_multiple = 2, 3, 4

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, lr_BCHW):
        return self.shuffle(torch.relu(self.mix(lr_BCHW)))


def test_attributes_stay():
    compiled = compile_network(Small())
    assert (compiled.upscale, compiled.in_chans, network_alignment(compiled)) == (2, 3, 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the compiler's own making
def test_tiles_of_a_compiled_network_equal_the_plain_one_s():
    network, lr_BCHW = Small().eval(), torch.rand(1, 3, 45, 51)
    options = {"scale": 2, "tile_size": 16, "tile_overlap": 8, "device": "cpu"}
    found = tile_upscale(compile_network(network), lr_BCHW, **options)
    torch.testing.assert_close(found, tile_upscale(network, lr_BCHW, **options), rtol=0, atol=1e-5)


def test_missing_compiler_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(HriusrError, match=r"C\+\+ compiler.*apt install g\+\+"):
        compile_network(Small())
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(HriusrError, match="no-such-compiler"):
        compile_network(Small())
