"""The network of a run, from the files that the user names: one, or several whose answers are averaged."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hriusr.archs.pretrained import find_weights
from hriusr.archs.weights import network_from_weights
from hriusr.errors import OptionsError
from hriusr.upscaling.compiling import compile_network
from hriusr.upscaling.ensembles import NetworkEnsemble, SelfEnsemble
from hriusr.upscaling.onnx_backend import load_onnx_network


def load_networks(
    weights: Sequence[str | Path],
    settings: Mapping[str, Any] | None = None,
    *,
    self_ensemble: bool = False,
    compiles: bool = False,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Build the networks of weights files.

    Args:
        weights: files, or names of shipped weights; the results of several are averaged.
        settings: constructor arguments to use instead of what the files say.
        self_ensemble: average over the eight flips and turns of the input.
        compiles: by torch.compile, when the first tile of a size comes.
        device: where onnxruntime is to compute; see load_onnx_network. Other networks stay on the CPU.

    Raises:
        OptionsError: no file, or networks that do not go together.
        WeightsError: a file is missing, damaged, or does not say what network it belongs to.
    """
    if not weights:
        raise OptionsError("weights: none is given; name a .pth or .safetensors file")
    networks = [_load(find_weights(name), settings, compiles, device) for name in weights]
    network = networks[0] if len(networks) == 1 else NetworkEnsemble(networks)
    return (SelfEnsemble(network) if self_ensemble else network).eval()


def _load(
    path: Path, settings: Mapping[str, Any] | None, compiles: bool, device: str | torch.device | None
) -> nn.Module:
    if path.suffix != ".onnx":
        network = network_from_weights(path, settings=settings)
        return compile_network(network) if compiles else network
    if settings or compiles:
        raise OptionsError(f"{path} is fixed: leave out {'settings' if settings else 'compile'}, or name its weights")
    return load_onnx_network(path, device=device)
