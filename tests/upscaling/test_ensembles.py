"""Averages of eight orientations and of several networks."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.data.image_io import image_to_tensor, read_image, write_image
from hriusr.errors import OptionsError
from hriusr.upscaling.ensembles import NetworkEnsemble, SelfEnsemble
from hriusr.upscaling.picture_upscaler import PictureUpscaler, TileOptions
from hriusr.upscaling.tiling import tile_upscale
from hriusr.upscaling.upscale import upscale_path


class Slanted(nn.Module):
    """Looks to the right and down only: its eight orientations differ."""

    upscale, in_chans = 2, 3

    def forward(self, x):
        x = F.pad(x, (0, 1, 0, 2), mode="replicate")
        mixed = 0.5 * x[..., :-2, :-1] + 0.3 * x[..., :-2, 1:] + 0.2 * x[..., 2:, :-1]
        return F.interpolate(mixed, scale_factor=2)


def test_self_ensemble_is_the_mean_of_eight_orientations():
    network, lr = Slanted(), torch.rand(1, 3, 9, 12)
    expected = torch.stack(
        [
            network(lr.rot90(turns, (2, 3)).flip(axes) if axes else lr.rot90(turns, (2, 3)))
            .flip(axes)
            .rot90(-turns, (2, 3))
            for turns in range(4)
            for axes in ((), (3,))
        ]
    ).mean(0)
    torch.testing.assert_close(SelfEnsemble(network)(lr), expected, rtol=0, atol=1e-6)


def test_self_ensemble_in_tiles_equals_the_whole():
    network, lr = SelfEnsemble(Slanted()), torch.rand(1, 3, 40, 50)
    whole, tiled = (tile_upscale(network, lr, scale=2, tile_size=size, tile_overlap=4) for size in (None, 12))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)


def test_several_weights_are_averaged(tmp_path, photo):
    image = photo("chelsea")[:24, :32]
    write_image(tmp_path / "a.png", image)
    results, files = [], []
    for number, name in enumerate(("swinir_tiny_x2", "involution_sr_tiny_x2")):
        opt = VARIANTS[name].network_opt()
        network = build_network(opt).eval()
        files.append(tmp_path / f"{number}.safetensors")
        save_weights(files[-1], network, opt)
        with torch.no_grad():
            results.append(network(image_to_tensor(image)[None]))
    upscale_path(tmp_path / "a.png", tmp_path / "b.png", weights=files)
    expected = (results[0] + results[1]).clamp(0, 2)[0].permute(1, 2, 0).numpy() / 2 * 255
    assert abs(read_image(tmp_path / "b.png") - expected.clip(0, 255)).max() <= 0.51


def test_networks_of_two_scales_are_refused():
    networks = [build_network({**VARIANTS["swinir_tiny_x2"].network_opt(), "upscale": scale}) for scale in (2, 4)]
    with pytest.raises(OptionsError, match="weights of an ensemble must enlarge by the same, not 2, 4"):
        NetworkEnsemble(networks)


def test_networks_that_do_not_say_their_scale_or_channels_go_with_those_that_do():
    real = build_network(
        {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1, "num_grow_ch": 4}
    )
    swinir = {**VARIANTS["swinir_tiny_x2"].network_opt(), "upscale": 4}
    ensemble = NetworkEnsemble([real, build_network(swinir)])
    assert (ensemble.upscale, ensemble.in_chans) == (4, 3)
    assert real.training
    with pytest.raises(OptionsError, match="must enlarge by the same, not 4, 2"):
        NetworkEnsemble([real, build_network({**swinir, "upscale": 2})])
    with pytest.raises(OptionsError, match="must take channels the same, not 3, 1"):
        NetworkEnsemble([real, build_network({**swinir, "in_chans": 1})])


def test_exact_goes_with_an_ensemble(tmp_path, photo, monkeypatch):
    monkeypatch.setenv("HRIUSR_CACHE", str(tmp_path / "cache"))
    opt = VARIANTS["involution_sr_tiny_x2"].network_opt()
    save_weights(tmp_path / "n.safetensors", build_network(opt), opt)
    write_image(tmp_path / "a.png", photo("chelsea")[:70, :90])
    for name, options in (("whole", TileOptions(tile_size=0)), ("exact", TileOptions(tile_size=16, exact=True))):
        upscale_path(
            tmp_path / "a.png",
            tmp_path / f"{name}.png",
            weights=tmp_path / "n.safetensors",
            self_ensemble=True,
            tiles=options,
        )
    difference = read_image(tmp_path / "whole.png").astype(int) - read_image(tmp_path / "exact.png")
    assert abs(difference).max() <= 1


def test_exact_is_refused_where_means_of_pools_are_those_of_all_orientations():
    network = SelfEnsemble(build_network(VARIANTS["hat_tiny_x2"].network_opt()))
    for options in (TileOptions(), TileOptions(tile_size=0, exact=True)):
        PictureUpscaler(network, device=torch.device("cpu"), options=replace(options, tile_overlap=8))
    with pytest.raises(OptionsError, match=r"exact: the network has global pools.* tile_size 0"):
        PictureUpscaler(network, device=torch.device("cpu"), options=TileOptions(exact=True))
