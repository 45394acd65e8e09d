"""What option files may name, with signatures: passed to load_options, which imports none of it."""

import inspect
from collections.abc import Iterable
from typing import Any

from torch import nn

from hriusr.archs.registry import known_networks, network_signature
from hriusr.basicsr_bridge import (
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    Registry,
    register_package,
)
from hriusr.models.sr_model import RestorationModel


def registered_components() -> dict[str, Any]:
    """Return load_options' arguments network_signature, known_networks and components.

    BasicSR registers more than can be run here: its own training steps and datasets do not follow the training loop's
    contract (a resumable sampler, one checkpoint), so only ours are offered; its losses and metrics are.
    """
    register_package()
    models = [name for name, cls in _entries(MODEL_REGISTRY) if issubclass(cls, RestorationModel)]
    datasets = [name for name, cls in _entries(DATASET_REGISTRY) if cls.__module__.startswith("hriusr.")]
    losses = [name for name, cls in _entries(LOSS_REGISTRY) if _is_picture_loss(name, cls)]
    gan_losses = [name for name, _ in _entries(LOSS_REGISTRY) if name == "GANLoss"]
    # BasicSR's *_pt metrics take tensors; pictures are measured as they are saved, in 8 bits
    metrics = [name for name, _ in _entries(METRIC_REGISTRY) if not name.endswith("_pt")]
    return {
        "network_signature": network_signature,
        "known_networks": known_networks,
        "components": {
            "model": _signatures(MODEL_REGISTRY, models),
            "dataset": _signatures(DATASET_REGISTRY, datasets),
            "loss": _signatures(LOSS_REGISTRY, losses),
            "gan_loss": _signatures(LOSS_REGISTRY, gan_losses),
            "metric": _signatures(METRIC_REGISTRY, metrics),
        },
    }


def _is_picture_loss(name: str, entry: Any) -> bool:
    """Whether a loss compares two pictures; GAN losses judge a discriminator's answer."""
    return isinstance(entry, type) and issubclass(entry, nn.Module) and "GAN" not in name


def _entries(registry: Registry) -> list[tuple[str, Any]]:
    return sorted(registry, key=lambda entry: entry[0])


def _signatures(registry: Registry, names: Iterable[str]) -> dict[str, inspect.Signature]:
    return {name: inspect.signature(registry.get(name)) for name in names}
