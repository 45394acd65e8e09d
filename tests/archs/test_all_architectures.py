"""What must hold for every network of ours, tried on the tiny row of each in the table of sizes."""

import copy
import inspect

import pytest
import torch
from torch import nn

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import network_from_weights, save_weights
from hriusr.basicsr_bridge import ARCH_REGISTRY, register_package
from hriusr.errors import OptionsError

TINY = [name for name in VARIANTS if "_tiny_" in name]


def build(name, **arguments):
    """Build a tiny network with every weight moved away from its start, so that no branch is closed."""
    torch.manual_seed(1)
    network = build_network(VARIANTS[name].network_opt() | arguments)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return network


def saved_bytes(network, lr_BCHW):
    """Bytes that autograd keeps for the backward pass, parameters aside; each storage once."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage  # holding the storage keeps its address from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(lr_BCHW)
    return sum(storage.nbytes() for storage in kept.values())


def test_table_has_a_tiny_row_for_every_network_of_ours():
    register_package()
    entries = [(name, entry) for name, entry in ARCH_REGISTRY if not name.startswith("UNetDiscriminator")]
    ours = {name for name, entry in entries if entry.__module__.startswith("hriusr.")}
    assert ours == {VARIANTS[name].type for name in TINY}


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 13), (65, 17), (3, 40)], ids=str)
@pytest.mark.parametrize("name", TINY)
def test_any_size_gives_finite_pixels(name, size):
    network = build(name).eval()
    with torch.no_grad():
        sr_BCHW = network(torch.rand(1, network.in_chans, *size))
    assert sr_BCHW.shape == (1, network.in_chans, network.upscale * size[0], network.upscale * size[1])
    assert sr_BCHW.isfinite().all()


@pytest.mark.parametrize("upscale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("name", TINY)
def test_every_scale(name, upscale):
    network = build(name, upscale=upscale).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, 5, 9)).shape == (2, 3, 5 * upscale, 9 * upscale)


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect", "nearest+conv"])
@pytest.mark.parametrize("name", TINY)
def test_every_parameter_gets_a_gradient(name, upsampler):
    network = build(name, upsampler=upsampler).eval()  # no branch dropped
    network(torch.rand(2, 3, 19, 22)).square().sum().backward()
    without = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []
    assert all(value.grad.isfinite().all() for value in network.parameters())


@pytest.mark.parametrize("name", TINY)
def test_gradients_reach_the_input(name):
    lr_BCHW = torch.rand(1, 3, 11, 12, requires_grad=True)
    build(name).eval()(lr_BCHW).sum().backward()
    assert lr_BCHW.grad.abs().amin() > 0


@pytest.mark.parametrize("name", TINY)
def test_pictures_of_a_batch_do_not_see_each_other(name):
    network = build(name).eval()
    lr_BCHW = torch.rand(3, 3, 9, 14)
    with torch.no_grad():
        alone = torch.cat([network(picture[None]) for picture in lr_BCHW])
        assert torch.allclose(network(lr_BCHW), alone, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_inference_equals_the_training_graph(name):
    network = build(name).eval()
    lr_BCHW = torch.rand(1, 3, 17, 30)
    with_graph = network(lr_BCHW)
    with torch.inference_mode():
        assert torch.allclose(network(lr_BCHW), with_graph, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_no_picture_gives_none(name):
    network, no_picture = build(name).eval(), torch.empty(0, 3, 9, 14)
    assert network(no_picture).shape[0] == 0
    with torch.no_grad():
        assert network(no_picture).shape == network(no_picture.requires_grad_()).shape


@pytest.mark.parametrize("name", TINY)
def test_channels_last_and_copies_change_nothing(name):
    network = build(name).eval()
    lr_BCHW = torch.rand(2, 3, 12, 10)
    with torch.no_grad():
        expected = network(lr_BCHW)
        assert torch.equal(copy.deepcopy(network)(lr_BCHW), expected)
        network = network.to(memory_format=torch.channels_last)
        assert torch.allclose(network(lr_BCHW.contiguous(memory_format=torch.channels_last)), expected, atol=1e-5)


@pytest.mark.parametrize("how", ["autocast", "bfloat16", "half"])
@pytest.mark.parametrize("name", TINY)
def test_half_precision_is_close_to_float32(name, how):
    """Within a few percent of what the network adds to a plain enlargement; bf16 has 8 bits."""
    torch.manual_seed(1)
    network = build_network(VARIANTS[name].network_opt()).eval()
    lr_BCHW = torch.rand(1, 3, 18, 21)
    with torch.no_grad():
        expected = network(lr_BCHW)
        if how == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                sr_BCHW = network(lr_BCHW)
        else:
            sr_BCHW = getattr(network, how)()(getattr(lr_BCHW, how)())
    assert sr_BCHW.isfinite().all()
    assert (sr_BCHW.float() - expected).abs().mean() < 0.01 * expected.std()


@pytest.mark.parametrize("name", TINY)
def test_autocast_trains(name):
    network = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = network(torch.rand(1, 3, 9, 9)).float().square().mean()
    loss.backward()
    assert all(value.grad.isfinite().all() for value in network.parameters())


@pytest.mark.parametrize("name", TINY)
def test_checkpointing_changes_nothing_and_keeps_less(name):
    lr_BCHW = torch.rand(2, 3, 16, 16)
    results = {}
    for use_checkpoint in (False, True):
        network = build(name, use_checkpoint=use_checkpoint, drop_path_rate=0.3)  # dropped again by the same numbers
        torch.manual_seed(2)
        sr_BCHW = network(lr_BCHW)
        sr_BCHW.square().sum().backward()
        results[use_checkpoint] = [sr_BCHW.detach(), *(value.grad for value in network.parameters())]
        results[use_checkpoint, "bytes"] = saved_bytes(network, lr_BCHW)
    for plain, recomputed in zip(results[False], results[True], strict=True):
        assert torch.equal(plain, recomputed)
    assert results[True, "bytes"] < 0.5 * results[False, "bytes"]


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", TINY)
def test_save_and_load_give_the_same_output(name, ending, tmp_path):
    network = build(name).eval()
    save_weights(tmp_path / f"net{ending}", network, VARIANTS[name].network_opt())
    lr_BCHW = torch.rand(1, 3, 10, 13)
    with torch.no_grad():
        assert torch.equal(network_from_weights(tmp_path / f"net{ending}")(lr_BCHW), network(lr_BCHW))


@pytest.mark.parametrize(("argument", "value"), [("upscale", 5), ("upsampler", "bicubic"), ("drop_path_rate", 1.5)])
@pytest.mark.parametrize("name", TINY)
def test_wrong_argument_is_named_with_its_value(name, argument, value):
    with pytest.raises(OptionsError, match=rf"{argument}.*{value}"):
        build_network(VARIANTS[name].network_opt() | {argument: value})


WINDOW_NETWORKS = ("HRIUSR", "HAT", "SwinIR", "Swin2SR")  # their heads share out embed_dim


@pytest.mark.parametrize("name", [name for name in TINY if VARIANTS[name].type in WINDOW_NETWORKS])
def test_channels_that_heads_do_not_divide_are_named(name):
    with pytest.raises(OptionsError, match=r"dim.*17"):
        build_network(VARIANTS[name].network_opt() | {"embed_dim": 17})


@pytest.mark.parametrize("name", TINY)
def test_misspelt_argument_is_answered_with_its_neighbour(name):
    with pytest.raises(OptionsError, match=r"upscal.*upscale"):
        build_network(VARIANTS[name].network_opt() | {"upscal": 2})


@pytest.mark.parametrize("name", TINY)
def test_no_constructor_swallows_keywords(name):
    kinds = {
        parameter.kind for parameter in inspect.signature(ARCH_REGISTRY.get(VARIANTS[name].type)).parameters.values()
    }
    assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_exported_program_takes_other_sizes(name):
    network = build(name).eval()
    dims = {2: torch.export.Dim("height", min=33, max=512), 3: torch.export.Dim("width", min=33, max=512)}
    program = torch.export.export(
        network,
        (torch.rand(1, 3, 40, 48),),
        dynamic_shapes=(dims,),
        prefer_deferred_runtime_asserts_over_guards=True,  # that views of multiples of the window fit cannot be proven
    )
    for size in ((40, 48), (64, 96), (33, 130)):
        lr_BCHW = torch.rand(1, 3, *size)
        with torch.no_grad():
            assert torch.allclose(program.module()(lr_BCHW), network(lr_BCHW), atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the compiler's own making
@pytest.mark.parametrize("name", TINY)
def test_compiled_network_equals_the_plain_one(name):
    network: nn.Module = build(name).eval()
    lr_BCHW = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        expected = network(lr_BCHW)
        assert torch.allclose(torch.compile(network, dynamic=False)(lr_BCHW), expected, atol=1e-4)
