"""Tiled against whole on a photograph, with the networks of this package: no seam, at the default overlap."""

import numpy as np
import pytest
import torch

from hriusr.archs.registry import build_network
from hriusr.archs.weights import save_weights
from hriusr.data.image_io import image_to_tensor, write_image
from hriusr.upscaling.picture_upscaler import TileOptions
from hriusr.upscaling.tile_plan import default_overlap, network_alignment, plan_axis
from hriusr.upscaling.tiling import tile_upscale
from hriusr.upscaling.upscale import upscale_path

SWIN = {
    "upscale": 2,
    "window_size": 4,
    "depths": [3, 3],
    "embed_dim": 12,
    "num_heads": [2, 2],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect",
}
NETWORKS = {
    "SwinIR": SWIN,
    "HAT": {
        **SWIN,
        "compress_ratio": 3,
        "squeeze_factor": 6,
        "conv_scale": 1.0,
    },  # its channel attention at full weight
    "HRIUSR": {"upscale": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": 2, "window_size": 4},
}
TILE_SIZE = 32


def make(name):
    network = build_network({"type": name, **NETWORKS[name]}).eval()
    for parameter_name, parameter in network.named_parameters():
        if parameter_name.endswith("gate"):  # starts at zero, which would hide the low-resolution branch
            torch.nn.init.normal_(parameter)
    return network


def column_gradients(sr_BCHW):
    """Mean absolute difference of each column to the one before it."""
    return sr_BCHW.diff(dim=-1).abs().mean(dim=(0, 1, 2))


@pytest.mark.parametrize("name", NETWORKS)
def test_no_seam_on_a_photograph(photo, name):
    network = make(name)
    overlap = default_overlap(network_alignment(network))
    lr = image_to_tensor(photo("astronaut")[60:172, 120:232])[None]
    whole, tiled, hard = (
        tile_upscale(network, lr, scale=2, tile_size=size, tile_overlap=pixels)
        for size, pixels in ((None, overlap), (TILE_SIZE, overlap), (TILE_SIZE, 0))
    )
    columns = plan_axis(lr.shape[-1], TILE_SIZE, overlap, alignment=network_alignment(network))
    assert len(columns.origins) > 1
    expected = column_gradients(whole)
    jump, hard_jump = ((column_gradients(sr) - expected).abs().max() / expected.mean() for sr in (tiled, hard))
    assert (tiled - whole).abs().max() < 0.5 / 255
    assert jump < 0.002  # of the mean gradient of a column, wherever the column lies
    assert hard_jump > 20 * jump  # what the overlap is for


def test_seams_of_a_self_ensemble_are_compared_with_windows_where_they_were(tmp_path, photo):
    opt = {"type": "SwinIR", **SWIN, "depths": [2], "num_heads": [2]}
    save_weights(tmp_path / "net.pth", build_network(opt), opt)
    strip = photo("astronaut")[100:117]
    write_image(tmp_path / "a.png", np.concatenate([strip, strip[:, 1:]], 1)[:, :701])
    report = upscale_path(
        tmp_path / "a.png",
        weights=tmp_path / "net.pth",
        self_ensemble=True,
        tiles=TileOptions(tile_size=128, exact=True),
        checks_seams=True,
        device="cpu",
    )
    assert report.outcomes[0].seams["num_crossings"] > 0
    assert report.outcomes[0].seams["max_difference"] == 0
