"""HRViT-SR, MobileViT-SR and Involution-SR: sizes, switches, what they start at, wrong arguments."""

import pytest
import torch

from hriusr.archs.hrvit_sr_arch import HRViTSR
from hriusr.archs.involution_sr_arch import InvolutionSR
from hriusr.archs.mobilevit_sr_arch import MobileViTSR
from hriusr.archs.variants import VARIANTS

TINY = {
    kind: VARIANTS[f"{name}_tiny_x2"].arguments
    for kind, name in ((HRViTSR, "hrvit_sr"), (MobileViTSR, "mobilevit_sr"), (InvolutionSR, "involution_sr"))
}
NETWORKS = list(TINY)
IMPRINTING = {"resampling": "imprinting", "window_size": 4}
CASES = [*((kind, {}) for kind in NETWORKS), (HRViTSR, IMPRINTING), (HRViTSR, {"resampling": "merging"})]


def case_name(value):
    if isinstance(value, type):
        return value.__name__
    return "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else ""


def wakened(kind, **changes):
    """Open the scales that start at zero and enlarge the weights, so that every part shows in the output."""
    network = kind(**{**TINY[kind], **changes})
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "layer_scale" in name:
                parameter.fill_(0.5)
            elif parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize("upscale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("kind", "changes"), CASES, ids=case_name)
def test_enlarges_any_size_by_any_scale(kind, changes, upscale):
    network = kind(**{**TINY[kind], **changes, "upscale": upscale}).eval()
    assert (network.upscale, network.in_chans) == (upscale, 3)
    with torch.no_grad():
        for size in ((1, 1), (7, 18)):
            y = network(torch.rand(1, 3, *size))
            assert y.shape == (1, 3, size[0] * upscale, size[1] * upscale)
            assert y.isfinite().all()


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "nearest+conv"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_other_upsamplers_and_grey_pictures(kind, upsampler):
    network = kind(**{**TINY[kind], "upsampler": upsampler, "in_chans": 1, "num_feat": 8}).eval()
    assert network(torch.rand(2, 1, 9, 5)).shape == (2, 1, 18, 10)


@pytest.mark.parametrize("kind", NETWORKS)
def test_starts_at_the_enlarged_input(kind):
    x = torch.rand(1, 3, 24, 40)
    enlarged = torch.nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    assert (kind(**TINY[kind]).eval()(x) - enlarged).abs().max() < 0.05


@pytest.mark.parametrize(("kind", "changes"), CASES, ids=case_name)
def test_every_parameter_gets_a_gradient(kind, changes):
    network = wakened(kind, **changes).train()
    network(torch.rand(1, 3, 18, 33)).square().sum().backward()
    dead = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("kind", NETWORKS)
def test_scales_that_start_at_zero_leave_it_after_one_step(kind):
    network = kind(**TINY[kind])
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        network(torch.rand(1, 3, 8, 8)).square().sum().backward()
        optimiser.step()
    dead = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize(
    ("kind", "switch"),
    [
        (HRViTSR, {"head_dim": 4}),
        (HRViTSR, {"stripe_widths": (4, 2)}),
        (HRViTSR, {"stripe_widths": (2, 4)}),
        (HRViTSR, {"stripe_lengths": (8, 16)}),
        (HRViTSR, {"stripe_lengths": (16, 8)}),
        (HRViTSR, {"mlp_ratio": 1.0}),
        (HRViTSR, {"depths": ((1,), (1, 2))}),
        (HRViTSR, {"embed_dims": (16, 48)}),
        (HRViTSR, {"resampling": "imprinting"}),
        (HRViTSR, {"resampling": "merging"}),
        (MobileViTSR, {"transformer_dim": 24}),
        (MobileViTSR, {"num_heads": 4}),
        (MobileViTSR, {"patch_size": 4}),
        (MobileViTSR, {"window_size": 16}),
        (MobileViTSR, {"mlp_ratio": 1.0}),
        (MobileViTSR, {"inverted_depth": 0}),
        (MobileViTSR, {"expand_ratio": 1.0}),
        (MobileViTSR, {"depths": (1, 1)}),
        (MobileViTSR, {"resi_connection": "3conv"}),
        (InvolutionSR, {"kernel_size": 5}),
        (InvolutionSR, {"group_channels": 4}),
        (InvolutionSR, {"reduction": 2}),
        (InvolutionSR, {"mlp_ratio": 1.0}),
        (InvolutionSR, {"resi_connection": "identity"}),
        *((kind, {"img_range": 255.0}) for kind in NETWORKS),
    ],
    ids=case_name,
)
def test_every_option_has_an_effect(kind, switch):
    """The output changes: other parameters, or the same ones used otherwise."""
    plain, switched = wakened(kind), wakened(kind, **switch)
    own = switched.state_dict()
    shared = {k: v for k, v in plain.state_dict().items() if k in own and own[k].shape == v.shape}
    switched.load_state_dict(shared, strict=False)
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert (plain(x) - switched(x)).abs().max() > 1e-6


def test_imprinting_windows_have_an_effect():
    plain, switched = wakened(HRViTSR, **IMPRINTING), wakened(HRViTSR, **{**IMPRINTING, "window_size": 8})
    assert plain.pad_multiple == 4
    assert switched.pad_multiple == 8
    assert sum(p.numel() for p in plain.parameters()) < sum(p.numel() for p in switched.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
def test_stochastic_depth_drops_paths_in_training_only(kind):
    x = torch.rand(1, 3, 8, 8)
    network = wakened(kind, drop_path_rate=0.9)
    assert len({network.train()(x).sum().item() for _ in range(8)}) > 1
    assert len({network.eval()(x).sum().item() for _ in range(3)}) == 1


@pytest.mark.parametrize(("kind", "changes"), CASES, ids=case_name)
def test_checkpointing_changes_nothing(kind, changes):
    x = torch.rand(1, 3, 10, 17)
    plain, recomputed = wakened(kind, **changes), wakened(kind, **changes, use_checkpoint=True)
    recomputed.load_state_dict(plain.state_dict())
    outputs = []
    for network in (plain, recomputed):
        outputs.append(network.train()(x))
        outputs[-1].sum().backward()
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    for (name, p), q in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


@pytest.mark.parametrize("kind", NETWORKS)
def test_checkpointing_keeps_less_for_the_backward_pass(kind):
    kept = []
    for use_checkpoint in (False, True):
        network = wakened(kind, use_checkpoint=use_checkpoint).train()
        sizes = {}

        def note(x, sizes=sizes):
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            network(torch.rand(1, 3, 16, 16))
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.6 * kept[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kind", "changes"), CASES, ids=case_name)
def test_half_precision_stays_close(kind, changes, dtype):
    network = kind(**{**TINY[kind], **changes}).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "layer_scale" in name:
                parameter.fill_(0.5)
        x = torch.rand(1, 3, 19, 32)
        expected = network(x)
        assert (network.to(dtype)(x.to(dtype)).float() - expected).abs().max() < 0.02


@pytest.mark.parametrize("kind", NETWORKS)
def test_autocast_stays_close_and_trains(kind):
    network = kind(**TINY[kind])
    x = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = network(x)
    assert (y.float() - network(x)).abs().max() < 0.02
    y.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize(("kind", "far"), [(MobileViTSR, 64), (InvolutionSR, 64)])
def test_far_pixels_have_no_influence(kind, far):
    """What a pixel sees is bounded, so that tiles can equal the whole picture."""
    network = wakened(kind)
    x = torch.rand(1, 3, 16, far + 64)
    changed = x.clone()
    changed[..., far + 32 :] = torch.rand(1, 3, 16, 32)
    with torch.no_grad():
        difference = (network(x) - network(changed)).abs().amax((0, 1, 2))
    assert difference[2 * (far + 32) :].max() > 1e-3
    assert difference[:64].max() == 0


@pytest.mark.parametrize("changes", [{}, IMPRINTING], ids=case_name)
def test_shifting_by_the_size_multiple_shifts_the_result(changes):
    """size_multiple is what the windows repeat with: the promise that tiles rely on."""
    for kind in NETWORKS:
        network = wakened(kind, **(changes if kind is HRViTSR else {}))
        step = network.size_multiple
        far = 3 * max(step, 32)
        x = torch.rand(1, 3, 8, 2 * far + step)
        with torch.no_grad():
            whole, shifted = network(x), network(x[..., step:])
        middle = 2 * far
        assert (whole[..., middle + 2 * step :][..., :8] - shifted[..., middle:][..., :8]).abs().max() < 1e-5, kind


@pytest.mark.parametrize("kind", NETWORKS)
def test_channels_last_changes_nothing(kind):
    network = wakened(kind)
    x = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        expected = network(x)
        y = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "changes"), CASES, ids=case_name)
def test_exports_with_dynamic_sizes(kind, changes):
    network = wakened(kind, **changes)
    dims = {2: torch.export.Dim("height", min=33, max=512), 3: torch.export.Dim("width", min=33, max=512)}
    program = torch.export.export(
        network,
        (torch.rand(1, 3, 40, 48),),
        dynamic_shapes=(dims,),
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    for size in ((40, 48), (64, 96), (33, 130)):
        x = torch.rand(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_compiles(kind):
    network = wakened(kind)
    compiled = torch.compile(network, backend="aot_eager")
    x = torch.rand(1, 3, 17, 20)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-5)


EVERY = [
    ({"upsampler": "bicubic"}, r"upsampler \(='bicubic'\)"),
    ({"upscale": 5}, r"upscale \(=5\)"),
    ({"in_chans": 0}, r"in_chans \(=0\)"),
    ({"depths": ()}, r"depths \(=\[\]\)"),
    ({"drop_path_rate": 1.0}, r"drop_path"),
]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        *((kind, *case) for kind in NETWORKS for case in EVERY),
        (HRViTSR, {"depths": ((1,), (0, 1))}, r"depths \(=\[\[1\], \[0, 1\]\]\) must be numbers of at least 1"),
        (HRViTSR, {"depths": ((1, 1), (1,))}, r"depths \(=\[\[1, 1\], \[1\]\]\) must have one list a stage"),
        (HRViTSR, {"depths": ((1,), (1,))}, r"as long as embed_dims \(2\)"),
        (HRViTSR, {"stripe_widths": (1,)}, r"stripe_widths \(=\[1\]\)"),
        (HRViTSR, {"stripe_lengths": (1, 2, 3)}, r"stripe_lengths \(=\[1, 2, 3\]\)"),
        (HRViTSR, {"stripe_lengths": (0, 8)}, r"stripe_length \(=0\)"),
        (HRViTSR, {"head_dim": 6}, r"dim \(=16\) must be a multiple of 2 \* head_dim \(=12\)"),
        (HRViTSR, {"embed_dims": (16, 60), "head_dim": 2}, r"dim \(=60\).*take 56 or 64"),
        (HRViTSR, {"resampling": "pool"}, r"resampling \(='pool'\)"),
        (HRViTSR, {"resampling": "imprinting", "window_size": 7}, r"window_size \(=7\)"),
        (HRViTSR, {"mlp_ratio": 0}, r"mlp_ratio"),
        (MobileViTSR, {"depths": (0,)}, r"depths \(=\[0\]\)"),
        (MobileViTSR, {"inverted_depth": -1}, r"inverted_depth \(=-1\)"),
        (MobileViTSR, {"window_size": 9}, r"window_size \(=9\) must be a multiple of patch_size \(=2\)"),
        (MobileViTSR, {"num_heads": 3}, r"transformer_dim \(=16\) must be divisible by num_heads \(=3\)"),
        (MobileViTSR, {"resi_connection": "2conv"}, r"resi_connection \(='2conv'\)"),
        (InvolutionSR, {"depths": (1, 0)}, r"depths \(=\[1, 0\]\)"),
        (InvolutionSR, {"group_channels": 7}, r"group_channels \(=7\)"),
        (InvolutionSR, {"kernel_size": 2}, r"kernel_size \(=2\)"),
        (InvolutionSR, {"reduction": 17}, r"reduction \(=17\)"),
    ],
    ids=case_name,
)
def test_wrong_arguments_name_themselves(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**{**TINY[kind], **arguments})


@pytest.mark.parametrize("name", [name for name in VARIANTS if "_sr_light" in name])
def test_light_sizes_stay_within_a_million_parameters(name):
    assert VARIANTS[name].parameters <= 1_000_000
    assert VARIANTS[name].multi_adds <= {2: 250, 4: 66}[VARIANTS[name].arguments["upscale"]]


@pytest.mark.parametrize(("kind", "multiple"), [(HRViTSR, 64), (MobileViTSR, 16), (InvolutionSR, 1)])
def test_windows_of_the_light_sizes_repeat_within_a_training_patch(kind, multiple):
    with torch.device("meta"):
        assert kind().size_multiple == multiple
