"""Perceptual and style loss on VGG's features (arXiv:1603.08155); takes over BasicSR's name PerceptualLoss.

Unlike BasicSR's, it never downloads: without the weights file a run is refused, or goes on without this loss where the
options say so.
"""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hriusr.basicsr_bridge import LOSS_REGISTRY, replace_in
from hriusr.errors import WeightsError
from hriusr.losses.vgg_features import VGGFeatures

logger = logging.getLogger(__name__)


@replace_in(LOSS_REGISTRY, "PerceptualLoss")
class PerceptualLoss(nn.Module):
    """Distance between the features of two pictures.

    Args:
        layer_weights: layer -> its factor; conv5_4 is before the ReLU, relu5_4 after it.
        vgg_type: vgg11, vgg13, vgg16 or vgg19.
        use_input_norm: normalise pictures as ImageNet's.
        range_norm: pictures are in -1..1.
        perceptual_weight: factor of the distance of features; 0: none.
        style_weight: factor of the distance of their Gram matrices; 0: none.
        criterion: l1, l2 (mean square) or fro (Frobenius norm).
        vgg_path: torchvision's weights file; None: looked for in experiments/pretrained_models/ and torch's cache.
        required: false: without the file, warn and leave this loss out.

    Raises:
        ValueError: an unknown network, layer or criterion.
        WeightsError: the file is missing (unless required is false) or does not fit.
    """

    def __init__(
        self,
        layer_weights: Mapping[str, float],
        vgg_type: str = "vgg19",
        use_input_norm: bool = True,
        range_norm: bool = False,
        perceptual_weight: float = 1.0,
        style_weight: float = 0.0,
        criterion: str = "l1",
        vgg_path: str | None = None,
        required: bool = True,
    ):
        super().__init__()
        if criterion not in _DISTANCES:
            raise ValueError(f"criterion (={criterion!r}) must be one of {', '.join(_DISTANCES)}")
        if not isinstance(layer_weights, Mapping):
            raise ValueError(f"layer_weights (={layer_weights!r}) must be a section such as conv5_4: 1")
        self.layer_weights = {str(name): float(weight) for name, weight in layer_weights.items()}
        self.perceptual_weight, self.style_weight = perceptual_weight, style_weight
        self.distance = _DISTANCES[criterion]
        arguments = {"use_input_norm": use_input_norm, "range_norm": range_norm, "vgg_path": vgg_path}
        try:
            self.vgg = VGGFeatures(list(self.layer_weights), vgg_type, **arguments)
        except WeightsError as error:
            if required:
                raise
            logger.warning("no perceptual loss: %s", error)
            self.vgg = None

    @property
    def is_missing(self) -> bool:
        """Whether the weights were not found, so that there is nothing to measure with."""
        return self.vgg is None

    def forward(self, output_BCHW: Tensor, target_BCHW: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Measure.

        Args:
            output_BCHW: what is trained.
            target_BCHW: what it should look like.

        Returns:
            (perceptual loss, style loss), scalars; None where the weight is 0 or the network is missing.
        """
        if self.vgg is None:
            return None, None
        features = self.vgg(output_BCHW)
        with torch.no_grad():
            targets = self.vgg(target_BCHW)
        perceptual = style = None
        if self.perceptual_weight > 0:
            perceptual = self.perceptual_weight * self._weighted_sum(features, targets)
        if self.style_weight > 0:
            grams = [{name: _gram(feature) for name, feature in each.items()} for each in (features, targets)]
            style = self.style_weight * self._weighted_sum(*grams)
        return perceptual, style

    def _weighted_sum(self, features: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        return sum(weight * self.distance(features[name], targets[name]) for name, weight in self.layer_weights.items())


def _gram(features_BCHW: Tensor) -> Tensor:
    features_BCN = features_BCHW.flatten(2)
    return features_BCN @ features_BCN.mT / features_BCHW[0].numel()


def _frobenius(first: Tensor, second: Tensor) -> Tensor:
    return torch.linalg.vector_norm(first - second)


_DISTANCES = {"l1": F.l1_loss, "l2": F.mse_loss, "fro": _frobenius}
