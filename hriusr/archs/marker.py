"""The marker: a small tensor that says in a state_dict what network it is of.

Programs that see only the tensors of a file (spandrel's loader, and with it chaiNNer and ComfyUI) lose network_g: the
metadata of a .safetensors, the keys beside params in a .pth. Shapes tell most of our arguments, but not all (heads of
MobileViT-SR, stripes of HRViT-SR, renorm), and a wrong guess is a wrong picture. So what we write for others carries
network_g as JSON in one uint8 tensor; our networks and load_weights take it out again. Networks of BasicSR, which
others load strictly, get none.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hriusr.basicsr_bridge import ARCH_REGISTRY

MARKER = "hriusr_network_g"


def with_marker(state: Mapping[str, Tensor], network_opt: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a state_dict with the marker added, where the network is one that passes over it (ignore_marker).

    Args:
        state: a network's state_dict.
        network_opt: `type` and constructor arguments, plain values.
    """
    type_name = network_opt["type"]
    if type_name not in ARCH_REGISTRY or not getattr(ARCH_REGISTRY.get(type_name), "passes_over_marker", False):
        return dict(state)
    text = json.dumps(dict(network_opt), sort_keys=True).encode("utf-8")
    return {**state, MARKER: torch.frombuffer(bytearray(text), dtype=torch.uint8)}


def read_marker(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the marker says; None where there is no marker that can be read."""
    marker = state.get(MARKER)
    if not isinstance(marker, Tensor):
        return None
    try:
        network_opt = json.loads(bytes(marker.flatten().to("cpu", torch.uint8).tolist()))
    except ValueError:  # bad JSON or UTF-8: somebody rewrote the tensors, as by a cast to fp16
        return None
    return network_opt if isinstance(network_opt, dict) and isinstance(network_opt.get("type"), str) else None


def ignore_marker(network: nn.Module) -> None:
    """Make a network's load_state_dict pass over the marker, also where it is strict.

    Its class says so by `passes_over_marker = True`.
    """
    network._register_load_state_dict_pre_hook(_drop_marker)  # public only from torch 2.5 on


def _drop_marker(state_dict: dict[str, Tensor], prefix: str, *_unused: object) -> None:
    state_dict.pop(prefix + MARKER, None)
