"""The auxiliary loss of compressed super-resolution: against a step by hand, and what it makes the network learn."""

import pytest
import torch
from torch.utils.data import default_collate

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.basicsr_bridge import MODEL_REGISTRY, register_package
from hriusr.data.image_io import write_image
from hriusr.data.paired_image_dataset import PairedImageDataset
from hriusr.data.sampler import SampleKey
from hriusr.errors import OptionsError
from hriusr.models.compressed_sr_model import CompressedSRModel

NETWORK = VARIANTS["swin2sr_tiny_x2"].network_opt() | {"drop_path_rate": 0.0}


@pytest.fixture(scope="module")
def batch(tmp_path_factory, photo):
    """Four patches of photographs, shrunk and compressed."""
    folder = tmp_path_factory.mktemp("gt")
    for name in ("astronaut", "coffee"):
        write_image(folder / f"{name}.png", photo(name)[60:156, 100:180])
    opt = {"dataroot_gt": str(folder), "phase": "train", "scale": 2, "gt_size": 32, "lq_jpeg_quality": 10}
    dataset = PairedImageDataset(opt)
    return default_collate([dataset[SampleKey(position % 2, position)] for position in range(4)])


@pytest.fixture
def opt(model_opt):
    """Return a function: changes -> options of a small Swin2SR with an auxiliary loss."""

    def make(**changes):
        aux_opt = {"type": "L1Loss", "loss_weight": 0.5, "reduction": "mean"}
        return model_opt(**{"network_g": NETWORK, "train__aux_opt": aux_opt} | changes)

    return make


def step(model, batch, iteration=1):
    model.update_learning_rate(iteration)
    model.feed_data(batch)
    model.optimize_parameters(iteration)
    return dict(model.get_current_log())


def test_model_is_registered():
    register_package()
    assert MODEL_REGISTRY.get("CompressedSRModel") is CompressedSRModel


@pytest.mark.parametrize("accumulation", [1, 2])
def test_losses_and_gradients_are_those_of_both_outputs(opt, batch, accumulation):
    model = CompressedSRModel(opt(train__accumulation=accumulation))
    network = build_network(NETWORK)
    network.load_state_dict(model.net_g.state_dict())
    sr_BCHW, aux_BCHW = network(batch["lq"], return_aux=True)
    l_pix, l_aux = (sr_BCHW - batch["gt"]).abs().mean(), 0.5 * (aux_BCHW - batch["lq_clean"]).abs().mean()
    (l_pix + l_aux).backward()
    log = step(model, batch)
    assert log["l_pix"] == pytest.approx(l_pix.item(), rel=1e-5)
    assert log["l_aux"] == pytest.approx(l_aux.item(), rel=1e-5)
    for name, parameter in model.net_g.named_parameters():
        torch.testing.assert_close(parameter.grad, network.get_parameter(name).grad, rtol=1e-4, atol=1e-6, msg=name)


def test_auxiliary_output_learns_the_clean_picture(opt, batch):
    """With the auxiliary loss alone: nearer to lq before compression than lq itself is."""
    torch.manual_seed(0)
    model = CompressedSRModel(opt(train__pixel_opt={"type": "L1Loss", "loss_weight": 0.0, "reduction": "mean"}))
    first = step(model, batch)["l_aux"]
    for iteration in range(2, 40):
        last = step(model, batch, iteration)["l_aux"]
    compressed = 0.5 * (batch["lq"] - batch["lq_clean"]).abs().mean().item()
    assert last < 0.3 * first
    assert last < 2 * compressed


def test_other_pictures_are_validated_without_the_clean_one(opt, batch):
    model = CompressedSRModel(opt())
    model.feed_data({"lq": batch["lq"][:1]})
    model.test()
    assert model.output.shape == (1, 3, 32, 32)


def test_missing_clean_picture_is_named(opt, batch):
    model = CompressedSRModel(opt())
    with pytest.raises(OptionsError, match=r"datasets\.train\.lq_jpeg_quality"):
        step(model, {"lq": batch["lq"], "gt": batch["gt"]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__aux_opt": None}, r"train\.aux_opt is missing"),
        ({"network_g": NETWORK | {"upsampler": "pixelshuffle"}}, "upsampler: pixelshuffle_aux"),
        ({"train__aux_opt": {"type": "L1Los"}}, r"train\.aux_opt\.type: unknown loss 'L1Los'; did you mean 'L1Loss'"),
    ],
)
def test_what_does_not_fit_is_named(opt, changes, message):
    with pytest.raises(OptionsError, match=message):
        CompressedSRModel(opt(**changes))
