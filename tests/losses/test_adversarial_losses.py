"""GAN losses and the perceptual loss against BasicSR's; what happens without VGG's weights."""

import logging

import numpy as np
import pytest
import torch

from hriusr.basicsr_bridge import REPLACED, register_package
from hriusr.errors import OptionsError, WeightsError
from hriusr.losses.gan_loss import GANLoss
from hriusr.losses.perceptual_loss import PerceptualLoss
from hriusr.losses.registry import build_loss
from hriusr.losses.vgg_features import VGGFeatures


@pytest.mark.parametrize("gan_type", ["vanilla", "lsgan", "wgan", "wgan_softplus", "hinge"])
@pytest.mark.parametrize("target_is_real", [True, False])
@pytest.mark.parametrize("is_disc", [True, False])
def test_gan_loss_equals_that_of_basicsr(gan_type, target_is_real, is_disc):
    register_package()
    arguments = {"real_label_val": 0.9, "fake_label_val": 0.1, "loss_weight": 0.3}
    answers = torch.randn(2, 1, 5, 5, requires_grad=True)
    results = []
    for cls in (GANLoss, REPLACED["loss", "GANLoss"]):
        loss = cls(gan_type, **arguments)(answers, target_is_real, is_disc=is_disc)
        results.append((loss, torch.autograd.grad(loss, answers)[0]))
    torch.testing.assert_close(*results)


def test_unknown_gan_type_is_refused_by_name():
    with pytest.raises(OptionsError, match=r"train.gan_opt .*gan_type \(='ragan'\) must be one of vanilla"):
        build_loss({"type": "GANLoss", "gan_type": "ragan"}, "train.gan_opt")


@pytest.fixture(scope="module")
def pictures(photo):
    """Two crops of photographs (2, 3, 32, 48), 0..1."""
    crops = [photo(name)[100:132, 120:168] for name in ("astronaut", "chelsea")]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 255


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """VGG19 of torchvision with random weights, without its classifier, as a file of torchvision's."""
    from torchvision.models import vgg

    torch.manual_seed(5)
    features = vgg.make_layers(vgg.cfgs["E"])
    path = tmp_path_factory.mktemp("vgg") / "vgg19-dcbb9e9d.pth"
    torch.save({f"features.{name}": tensor for name, tensor in features.state_dict().items()}, path)
    return path


LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1}


@pytest.mark.parametrize("layers", [list(LAYERS), ["relu1_1", "pool2", "relu3_1"]])
def test_features_equal_those_of_torchvision(vgg_file, layers, pictures):
    from torchvision.models import vgg

    network = vgg.make_layers(vgg.cfgs["E"])
    state = torch.load(vgg_file, weights_only=True)
    network.load_state_dict({name.removeprefix("features."): tensor for name, tensor in state.items()})
    names = [
        "conv1_1 relu1_1 conv1_2 relu1_2 pool1 conv2_1 relu2_1 conv2_2 relu2_2 pool2 conv3_1 relu3_1 conv3_2 relu3_2",
        "conv3_3 relu3_3 conv3_4 relu3_4 pool3 conv4_1 relu4_1 conv4_2 relu4_2 conv4_3 relu4_3 conv4_4 relu4_4 pool4",
        "conv5_1 relu5_1 conv5_2 relu5_2 conv5_3 relu5_3 conv5_4 relu5_4 pool5",
    ]
    picture = pictures[:1]
    x = (picture - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    expected = {}
    for name, layer in zip(" ".join(names).split(), network, strict=True):
        x = layer(x.clone())
        expected[name] = x
    features = VGGFeatures(layers, vgg_path=str(vgg_file))(picture)
    assert [*features] == layers
    for name, feature in features.items():
        torch.testing.assert_close(feature, expected[name])


@pytest.mark.parametrize("criterion", ["l1", "fro"])
def test_perceptual_loss_equals_that_of_basicsr(vgg_file, pictures, criterion, monkeypatch):
    register_package()
    theirs_class = REPLACED["loss", "PerceptualLoss"]
    from basicsr.archs import vgg_arch

    monkeypatch.setattr(vgg_arch.vgg, "vgg19", _with_features(vgg_file))
    arguments = {"perceptual_weight": 0.7, "style_weight": 2.0, "criterion": criterion, "layer_weights": LAYERS}
    output, target = pictures[:1], pictures[1:]
    theirs = theirs_class(**arguments)(output, target)
    ours = PerceptualLoss(**arguments, vgg_path=str(vgg_file))(output, target)
    torch.testing.assert_close(ours, theirs)


def _with_features(vgg_file):
    from torch import nn
    from torchvision.models import vgg

    def build(pretrained):
        network = nn.Module()
        network.features = vgg.make_layers(vgg.cfgs["E"])
        network.load_state_dict(torch.load(vgg_file, weights_only=True))
        return network

    return build


def test_perceptual_loss_trains_the_picture_and_not_the_network(vgg_file, pictures):
    loss = PerceptualLoss({"conv2_2": 1.0}, vgg_path=str(vgg_file))
    output = pictures[:1].clone().requires_grad_()
    value, style = loss(output, pictures[1:])
    value.backward()
    assert style is None
    assert output.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_weights_are_found_where_basicsr_and_torch_put_them(vgg_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for folder in ("hub/checkpoints", "experiments/pretrained_models"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / vgg_file.name).symlink_to(vgg_file)
        assert not PerceptualLoss({"conv1_1": 1.0}).is_missing
        (tmp_path / folder / vgg_file.name).unlink()


def test_without_weights_the_error_says_where_to_get_them(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(WeightsError) as caught:
        PerceptualLoss(LAYERS)
    for words in ("experiments/pretrained_models/vgg19-dcbb9e9d.pth", "hub/checkpoints", "https://", "vgg_path"):
        assert words in str(caught.value)
    with caplog.at_level(logging.WARNING):
        loss = PerceptualLoss(LAYERS, required=False)
    assert loss.is_missing
    assert loss(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)) == (None, None)
    assert "no perceptual loss" in caplog.text


def test_file_of_another_network_is_refused(tmp_path, vgg_file):
    with pytest.raises(WeightsError, match=r"is not vgg16 of torchvision: features.17.weight is missing|has shape"):
        VGGFeatures(["conv5_3"], "vgg16", vgg_path=str(vgg_file))
    (tmp_path / "torn.pth").write_bytes(vgg_file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be read"):
        VGGFeatures(["conv1_1"], vgg_path=str(tmp_path / "torn.pth"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layer_weights": {"conv9_9": 1}}, "conv9_9"),
        ({"layer_weights": LAYERS, "criterion": "l3"}, "criterion"),
        ({"layer_weights": LAYERS, "vgg_type": "vgg20"}, "vgg_type"),
    ],
)
def test_wrong_arguments_are_named(arguments, words, vgg_file):
    with pytest.raises(OptionsError, match=words):
        build_loss({"type": "PerceptualLoss", "vgg_path": str(vgg_file), **arguments}, "train.perceptual_opt")
