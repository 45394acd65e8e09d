"""Our networks in programs built on spandrel (chaiNNer, ComfyUI and others): `pip install spandrel`, then

    import hriusr.spandrel_plugin
    hriusr.spandrel_plugin.install()
    model = spandrel.ModelLoader().load_from_file("hriusr_fast_x2.safetensors")

spandrel finds a network by its tensors only. A file that `hriusr convert` or save_weights wrote says its network by a
marker among them (archs/marker.py); for others shapes have to do, and what they leave open goes to the log. SwinIR, HAT
and Swin2SR are spandrel's own: ours step in only where a file lacks the buffers that spandrel looks for, or is of a
kind that it does not build.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hriusr.archs.detect import detect_network, log_assumptions
from hriusr.archs.detect_parts import Detection
from hriusr.archs.marker import read_marker
from hriusr.archs.original_buffers import lacks_in_originals
from hriusr.archs.registry import build_network, complete_network_opt
from hriusr.errors import HriusrError

try:
    from spandrel import (
        MAIN_REGISTRY,
        Architecture,
        ArchRegistry,
        ArchSupport,
        ImageModelDescriptor,
        ModelTiling,
        SizeRequirements,
        StateDict,
    )
except ImportError as error:
    raise ImportError("hriusr.spandrel_plugin needs spandrel: pip install spandrel") from error

OWN = ("HRIUSR", "HRViTSR", "MobileViTSR", "InvolutionSR")
SHARED = ("SwinIR", "HAT", "Swin2SR")
# buffers without which spandrel does not know a file of these
_SPANDREL_LOOKS_FOR = {
    "SwinIR": "layers.0.residual_group.blocks.0.attn.relative_position_index",
    "Swin2SR": "layers.0.residual_group.blocks.0.attn.relative_position_index",
    "HAT": "relative_position_index_SA",
}


class HriusrArchitecture(Architecture[nn.Module]):
    """One of our architectures, as spandrel wants it.

    Args:
        type_name: registered name of the network.
    """

    def __init__(self, type_name: str):
        super().__init__(id=architecture_id(type_name), name=f"{type_name} (hriusr)", detect=self._is_ours)
        self.type_name = type_name

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[nn.Module]:
        """Build the network of a state_dict and load it.

        Raises:
            HriusrError: the tensors do not fit what they seem to be of.
        """
        state = _tensors(state_dict)
        found = detect_network(state)
        log_assumptions(found, f"{self.type_name} file")
        network = build_network(found.network_opt)
        network_opt = complete_network_opt(found.network_opt)
        num_parameters = sum(parameter.numel() for parameter in network.parameters())
        # statistics over the whole picture: those of a tile are others
        pools_picture = network_opt.get("norm") == "instance" or network_opt.get("channel_attention") == "global"
        return ImageModelDescriptor(
            network,
            state,
            architecture=self,
            purpose="Restoration" if network.upscale == 1 else "SR",
            tags=[f"{num_parameters / 1e6:.2f}M parameters"],
            # fp16 overflows in published SwinIR and HAT; spandrel's own refuse it too
            supports_half=self.type_name in OWN,
            supports_bfloat16=True,
            scale=network.upscale,
            input_channels=network.in_chans,
            output_channels=network.in_chans,
            size_requirements=SizeRequirements(),  # any size >= 1: padding is the network's own
            tiling=ModelTiling.DISCOURAGED if pools_picture else ModelTiling.SUPPORTED,
        )

    def _is_ours(self, state_dict: StateDict) -> bool:
        state = _tensors(state_dict)
        marked = read_marker(state)
        if marked is not None:
            return marked["type"] == self.type_name
        try:
            found = detect_network(state)
        except HriusrError:
            return False
        if found is None or found.network_opt["type"] != self.type_name:
            return False
        return _fits(state, found) and (self.type_name in OWN or not _spandrel_takes(state, found))


def install(registry: ArchRegistry = MAIN_REGISTRY) -> list[str]:
    """Add our architectures to a registry of spandrel; calling it again changes nothing.

    Args:
        registry: spandrel's main one, which ModelLoader() uses, or one of your own.

    Returns:
        Ids of the architectures that were added.
    """
    supports = [
        ArchSupport.from_architecture(
            HriusrArchitecture(type_name), before=(type_name,) if type_name in SHARED and type_name in registry else ()
        )
        for type_name in (*OWN, *SHARED)
    ]
    return [str(support.architecture.id) for support in registry.add(*supports, ignore_duplicates=True)]


def architecture_id(type_name: str) -> str:
    """Return the id in spandrel's registry: our names for our networks, a prefix where spandrel has the name itself."""
    return f"hriusr-{type_name}" if type_name in SHARED else type_name


def _tensors(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state_dict.items() if isinstance(value, Tensor)}


def _fits(state: Mapping[str, Tensor], found: Detection) -> bool:
    """Tell whether a file has just the tensors of the network it looks like: relatives of it share some names."""
    try:
        with torch.device("meta"):
            network = build_network(found.network_opt)
        network.load_state_dict(dict(state), assign=True)
    except (HriusrError, RuntimeError):
        return False
    return True


def _spandrel_takes(state: Mapping[str, Tensor], found: Detection) -> bool:
    """Tell whether spandrel's own network of the name would load an unmarked file."""
    network_opt = complete_network_opt(found.network_opt)
    if _SPANDREL_LOOKS_FOR[network_opt["type"]] not in state or lacks_in_originals(network_opt):
        return False
    # its SwinIR is always built with both
    return network_opt["type"] != "SwinIR" or (network_opt["qkv_bias"] and network_opt["patch_norm"])
