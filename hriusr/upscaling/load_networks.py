"""The network of a run, from the files that the user names: one, or several whose answers are averaged."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hriusr.archs.pretrained import find_weights
from hriusr.archs.weights import network_from_weights
from hriusr.errors import OptionsError
from hriusr.upscaling.ensembles import NetworkEnsemble, SelfEnsemble


def load_networks(
    weights: Sequence[str | Path], settings: Mapping[str, Any] | None = None, *, self_ensemble: bool = False
) -> nn.Module:
    """Build the networks of weights files.

    Args:
        weights: files, or names of shipped weights; the results of several are averaged.
        settings: constructor arguments to use instead of what the files say.
        self_ensemble: average over the eight flips and turns of the input.

    Raises:
        OptionsError: no file, or networks that do not go together.
        WeightsError: a file is missing, damaged, or does not say what network it belongs to.
    """
    if not weights:
        raise OptionsError("weights: none is given; name a .pth or .safetensors file")
    networks = [network_from_weights(find_weights(name), settings=settings) for name in weights]
    network = networks[0] if len(networks) == 1 else NetworkEnsemble(networks)
    return (SelfEnsemble(network) if self_ensemble else network).eval()
