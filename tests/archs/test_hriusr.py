"""HRIUSR: sizes, switches, scales, and that a tile with its surroundings equals the whole."""

import pytest
import torch

from hriusr.archs.hriusr_arch import HRIUSR

TINY = {"embed_dim": 12, "depths": (2,), "num_heads": 2, "low_resolution_depth": 1}


def _wakened(network: HRIUSR) -> HRIUSR:
    """Open the gates that start at zero, so that every branch shows in the output."""
    for group in network.groups:
        if group.low_resolution is not None:
            torch.nn.init.constant_(group.low_resolution.gate, 0.5)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.1)
    return network.eval()


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect", "nearest+conv"])
@pytest.mark.parametrize("upscale", [1, 2, 3, 4, 8])
def test_enlarges_any_size_by_any_scale(upscale, upsampler):
    network = HRIUSR(upscale=upscale, upsampler=upsampler, **TINY).eval()
    with torch.no_grad():
        for size in ((1, 1), (7, 33)):
            y = network(torch.rand(1, 3, *size))
            assert y.shape == (1, 3, size[0] * upscale, size[1] * upscale)
            assert y.isfinite().all()


def test_starts_at_the_enlarged_input():
    x = torch.rand(1, 3, 24, 40)
    enlarged = torch.nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    assert (HRIUSR(**TINY).eval()(x) - enlarged).abs().max() < 0.05


def test_every_parameter_gets_a_gradient():
    network = _wakened(HRIUSR(**TINY)).train()
    network(torch.rand(1, 3, 32, 64)).square().sum().backward()
    dead = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize(
    "switch",
    [
        {"terms": "a"},
        {"terms": "nm"},
        {"tables": "full"},
        {"renorm": "l2"},
        {"wide_window_size": 16},
        {"shares_projections": True},
        {"shares_projections": True, "similarity": "cosine"},
        {"ffn": "gated"},
        {"ffn": "none"},
        {"num_heads": 0, "overlap_ratio": 0, "low_resolution_ratio": 0},
        {"num_heads": 0, "overlap_ratio": 0, "low_resolution_ratio": 0, "channel_attention": "none"},
        {"mlp_ratio": 1.0},
        {"ffn_kernel_size": 0},
        {"ffn_kernel_size": 5},
        {"channel_attention": "none"},
        {"channel_attention": "global"},
        {"compress_ratio": 3.0},
        {"squeeze_factor": 2.0},
        {"cab_scale": 0.5},
        {"overlap_ratio": 0.0},
        {"overlap_ratio": 1.0},
        {"overlap_terms": "a"},
        {"low_resolution_ratio": 0},
        {"low_resolution_ratio": 2},
        {"low_resolution_depth": 2},
        {"resampling": "merging"},
        {"resampling": "conv"},
        {"num_convs": 2},
        {"depths": [0]},
        {"norm": "instance"},
        {"upsampler": "pixelshuffle"},
        {"num_feat": 32, "upsampler": "pixelshuffle"},
        {"img_range": 255.0},
        {"window_size": 4},
    ],
    ids=lambda switch: "-".join(f"{k}={v}" for k, v in switch.items()),
)
def test_every_option_has_an_effect(switch):
    """The output changes: other parameters, or the same ones used otherwise."""
    torch.manual_seed(1)
    plain = _wakened(HRIUSR(**TINY))
    switched = _wakened(HRIUSR(**(TINY | switch)))
    own = switched.state_dict()
    shared = {k: v for k, v in plain.state_dict().items() if k in own and own[k].shape == v.shape}
    scales = {k: v for k, v in own.items() if "cab_scale" in k}
    switched.load_state_dict(shared | scales, strict=False)
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert (plain(x) - switched(x)).abs().max() > 1e-6


def test_linear_init_sets_the_deviation_of_the_weights():
    def deviation(linear_init: str) -> float:
        network = HRIUSR(**(TINY | {"linear_init": linear_init}))
        return network.groups[0].blocks[0].attention.project_in.weight.std().item()

    assert deviation("swin") == pytest.approx(0.02, rel=0.15)
    assert deviation("fan_in") == pytest.approx(0.88 * 12**-0.5, rel=0.15)  # 0.88: what the cut leaves


def test_quiet_blocks_change_nothing_at_first():
    network = HRIUSR(**TINY, linear_init="quiet", channel_attention="none")
    x = torch.randn(1, 32, 32, 12)
    for block in network.groups[0].blocks:
        torch.testing.assert_close(block(x), x, rtol=0, atol=0)
    assert not torch.allclose(HRIUSR(**TINY, channel_attention="none").groups[0].blocks[0](x), x)


def test_still_groups_change_nothing_at_first():
    network = HRIUSR(**TINY, linear_init="still", num_convs=2)
    x = torch.randn(1, 32, 32, 12)
    torch.testing.assert_close(network.groups[0](x), x, rtol=0, atol=0)
    assert network.groups[0].conv[0].weight.std().item() == pytest.approx((2 / 1.04 / (9 * 12)) ** 0.5, rel=0.1)


@pytest.mark.parametrize("arguments", [{}, {"shares_projections": True}, {"wide_window_size": 8}])
def test_heads_may_start_near(arguments):
    network = HRIUSR(**(TINY | {"window_size": 4}), bias_init="near", low_resolution_ratio=2, **arguments)
    for block in network.groups[0].blocks:
        scores = block.attention.scores
        table = scores.bias_table.detach()
        centre = (table.shape[1] - 1) / 2
        assert table[0].max() >= -0.25
        near, far = table[:, int(centre), int(centre)], table[:, int(centre), 0]
        distance = centre - int(centre) + torch.tensor(0.0)
        assert (near - far)[0] == pytest.approx((centre**2 - distance.item() ** 2) / 2)
        assert (near - far)[1] == pytest.approx((centre**2 - distance.item() ** 2) / 8)


def test_stochastic_depth_and_checkpointing():
    x = torch.rand(1, 3, 32, 32)
    network = _wakened(HRIUSR(**TINY, drop_path_rate=0.9)).train()
    assert len({network(x).sum().item() for _ in range(4)}) > 1
    plain, recomputed = _wakened(HRIUSR(**TINY)), _wakened(HRIUSR(**TINY, use_checkpoint=True))
    recomputed.load_state_dict(plain.state_dict())
    for candidate in (plain, recomputed):
        candidate.train()(x).sum().backward()
    torch.testing.assert_close(plain(x), recomputed(x))
    for (name, p), q in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


def test_far_pixels_have_no_influence():
    """Local channel attention and LayerNorm bound what a pixel sees, so that tiles can equal the whole."""
    network = _wakened(HRIUSR(**TINY))
    x = torch.rand(1, 3, 32, 256)
    changed = x.clone()
    changed[..., 224:] = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        difference = (network(x) - network(changed)).abs().amax((0, 1, 2))
    assert difference[448:].max() > 1e-3
    assert difference[:64].max() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(dtype):
    network = HRIUSR(**TINY).eval()
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = network(x)
        assert (network.to(dtype)(x.to(dtype)).float() - expected).abs().max() < 0.02


def test_channels_last_changes_nothing():
    network = _wakened(HRIUSR(**TINY))
    x = torch.rand(1, 3, 32, 40)
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(
            network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last)), expected
        )


@pytest.mark.slow
def test_exports_with_dynamic_sizes():
    network = _wakened(HRIUSR(**TINY))
    # From two low-resolution windows on: with one, broadcasting rules make another graph
    dims = {2: torch.export.Dim("height", min=33, max=512), 3: torch.export.Dim("width", min=33, max=512)}
    program = torch.export.export(
        network,
        (torch.rand(1, 3, 40, 48),),
        dynamic_shapes=(dims,),
        prefer_deferred_runtime_asserts_over_guards=True,  # that views of multiples of 32 fit cannot be proven
    )
    for size in ((40, 48), (64, 96), (33, 130)):
        x = torch.rand(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dim": 13}, r"dim \(=13\).*num_heads \(=2\)"),
        ({"upsampler": "bicubic"}, r"upsampler \(='bicubic'\)"),
        ({"upscale": 5}, r"upscale \(=5\)"),
        ({"terms": "abc"}, r"terms \(='abc'\)"),
        ({"channel_attention": "some"}, r"channel_attention \(='some'\)"),
        ({"resampling": "pool"}, r"resampling \(='pool'\)"),
        ({"low_resolution_ratio": 3}, r"ratio \(=3\)"),
        ({"ffn_kernel_size": 4}, r"ffn_kernel_size \(=4\)"),
        ({"ffn": "gated", "ffn_kernel_size": 0}, r"ffn_kernel_size \(=0\)"),
        ({"num_heads": 0}, r"num_heads \(=0\) needs overlap_ratio"),
        ({"ffn": "some"}, r"ffn \(='some'\)"),
        ({"num_convs": 0}, r"num_convs \(=0\)"),
        ({"bias_init": "some"}, r"bias_init \(='some'\)"),
        ({"linear_init": "some"}, r"linear_init \(='some'\)"),
        ({"wide_window_size": 12}, r"wide_window_size \(=12\)"),
        ({"wide_window_size": 24}, r"dim \(=12\).*squeeze_ratio \(=3\)"),
        ({"shares_projections": True, "renorm": "l2"}, r"renorm \(='l2'\)"),
        ({"similarity": "cosine"}, r"similarity \(='cosine'\) needs shares_projections"),
        ({"shares_projections": True, "similarity": "dot"}, r"similarity \(='dot'\) must be one of product, cosine"),
        ({"depths": ()}, r"depths \(=\(\)\)"),
        ({"in_chans": 0}, r"in_chans \(=0\)"),
        ({"window_size": 0}, r"^window_size \(=0\)"),
        ({"window_size": 0, "low_resolution_ratio": 0}, r"^window_size \(=0\)"),
        ({"norm": "batch"}, r"norm \(='batch'\)"),
    ],
)
def test_wrong_arguments_name_themselves(arguments, message):
    with pytest.raises(ValueError, match=message):
        HRIUSR(**(TINY | arguments))


def test_light_stays_within_its_budget():
    for upscale in (2, 3, 4):
        assert sum(p.numel() for p in HRIUSR(upscale=upscale).parameters()) <= 950_000
