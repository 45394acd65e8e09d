"""The convolutions of VGG (arXiv:1409.1556) as a fixed measure of likeness, from a weights file that is already here.

Layers are named as BasicSR names them: conv3_4 is the fourth convolution of the third stage, before its ReLU.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hriusr.errors import WeightsError

# convolutions a stage; stages end with a pooling
_STAGES = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)
# torchvision's files, trained on ImageNet
_FILES = {
    "vgg11": "vgg11-8a719046.pth",
    "vgg13": "vgg13-19584684.pth",
    "vgg16": "vgg16-397923af.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision normalises


class VGGFeatures(nn.Module):
    """Computes features at named layers; it is never trained.

    Args:
        layers: names such as conv1_2 or relu5_4.
        vgg_type: vgg11, vgg13, vgg16 or vgg19.
        use_input_norm: subtract ImageNet's mean and divide by its spread.
        range_norm: pictures are in -1..1 instead of 0..1.
        vgg_path: weights; None: looked for where find_vgg_weights says.

    Raises:
        ValueError: an unknown network or layer.
        WeightsError: the file is missing or not of this network.
    """

    def __init__(
        self,
        layers: Sequence[str],
        vgg_type: str = "vgg19",
        *,
        use_input_norm: bool = True,
        range_norm: bool = False,
        vgg_path: str | None = None,
    ):
        super().__init__()
        plan = _layer_plan(vgg_type)
        unknown = sorted(set(layers) - set(plan))
        if unknown or not layers:
            raise ValueError(f"layers (={unknown or 'none'}) of {vgg_type}: take some of {', '.join(plan)}")
        self.layers = list(layers)
        self.plan = plan[: max(plan.index(name) for name in layers) + 1]
        self.range_norm = range_norm
        self.convolutions = nn.ModuleDict()
        channels = 3
        for name in self.plan:
            if name.startswith("conv"):
                width = _CHANNELS[int(name[4]) - 1]
                self.convolutions[name] = nn.Conv2d(channels, width, 3, padding=1)
                channels = width
        mean, std = (_MEAN, _STD) if use_input_norm else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self._load(find_vgg_weights(vgg_type, vgg_path), vgg_type)
        self.requires_grad_(False)

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """Compute features.

        Args:
            x_BCHW: RGB; range 0..1, or -1..1 with range_norm.

        Returns:
            Layer -> (B, channels, H / 2**n, W / 2**n), in the order of the network.
        """
        if self.range_norm:
            x_BCHW = (x_BCHW + 1) / 2
        x = (x_BCHW - self.mean) / self.std
        features = {}
        for name in self.plan:
            if name in self.convolutions:
                x = self.convolutions[name](x)
            else:
                x = F.relu(x) if name.startswith("relu") else F.max_pool2d(x, 2)
            if name in self.layers:
                features[name] = x
        return features

    def _load(self, path: Path, vgg_type: str) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            raise WeightsError(
                f"vgg_path {path} cannot be read ({str(error).splitlines()[0]}); fetch it again"
            ) from None
        plan = _layer_plan(vgg_type)
        for name, convolution in self.convolutions.items():
            place = f"features.{plan.index(name)}"  # torchvision numbers all layers
            for kind, parameter in convolution.named_parameters():
                tensor = state.get(f"{place}.{kind}") if isinstance(state, Mapping) else None
                if tensor is None or tensor.shape != parameter.shape:
                    raise WeightsError(
                        f"vgg_path {path} is not {vgg_type} of torchvision: {place}.{kind} "
                        f"{'is missing' if tensor is None else f'has shape {tuple(tensor.shape)}'}"
                    )
                parameter.data.copy_(tensor)


def find_vgg_weights(vgg_type: str, vgg_path: str | None = None) -> Path:
    """Find torchvision's weights; nothing is fetched.

    Args:
        vgg_type: vgg11 to vgg19.
        vgg_path: the file; None: experiments/pretrained_models/, where BasicSR looks too, then torch's cache.

    Raises:
        WeightsError: there is none; says how to get it.
    """
    name = _FILES[vgg_type]
    places = [Path("experiments/pretrained_models", name), Path(torch.hub.get_dir(), "checkpoints", name)]
    if vgg_path is not None:
        places = [Path(vgg_path).expanduser()]
    for place in places:
        if place.is_file():
            return place
    raise WeightsError(
        f"weights of {vgg_type} are not at {' nor at '.join(map(str, places))}: fetch "
        f"https://download.pytorch.org/models/{name}, and give it as train.perceptual_opt.vgg_path; "
        "or train without it: train.perceptual_opt.required: false"
    )


def _layer_plan(vgg_type: str) -> list[str]:
    """Name all layers in order, as they stand in torchvision's `features`."""
    if vgg_type not in _STAGES:
        raise ValueError(f"vgg_type (={vgg_type!r}) must be one of {', '.join(_STAGES)}")
    plan = []
    for stage, count in enumerate(_STAGES[vgg_type], start=1):
        for number in range(1, count + 1):
            plan += [f"conv{stage}_{number}", f"relu{stage}_{number}"]
        plan.append(f"pool{stage}")
    return plan
