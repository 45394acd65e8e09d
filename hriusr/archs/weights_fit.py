"""Does a state_dict fit a network: load it, or say what is missing and what network the file seems to be of."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hriusr.errors import WeightsError

logger = logging.getLogger(__name__)

# part of a parameter's name -> the network that has it; the first that fits is named
_TELLTALE_NAMES = (
    ("overlap_attn.relative_position_bias_table", "HAT"),
    ("attn.logit_scale", "Swin2SR"),
    ("residual_group.blocks.0.attn.relative_position_bias_table", "SwinIR"),
    ("rdb1.conv1.weight", "RRDBNet (ESRGAN, Real-ESRGAN)"),
    ("attention.1.weight", "RCAN"),
    ("conv_after_body.weight", "EDSR"),
    ("upconv1.weight", "MSRResNet"),
)
_NAMES_SHOWN = 3


def apply_weights(
    network: nn.Module,
    state: dict[str, Tensor],
    *,
    source: str | Path,
    network_opt: Mapping[str, Any] | None,
    strict: bool = True,
) -> list[str]:
    """Load a state_dict into a network.

    Args:
        network: the bare network; left half-loaded where this raises.
        state: what load_weights returned.
        source: file name, for messages.
        network_opt: the file's network_g, for messages.
        strict: every name and shape must agree; else what fits is loaded and the rest is listed in the log.

    Returns:
        What was not loaded, one line each; empty when strict.

    Raises:
        WeightsError: strict, and the file does not fit.
    """
    misshaped: list[str] = []
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError:  # shapes; hooks of the network had their chance to adapt them
        expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        misfits = {
            name for name, tensor in state.items() if tuple(tensor.shape) != expected.get(name, tuple(tensor.shape))
        }
        misshaped = [f"{name}: file {tuple(state[name].shape)}, network {expected[name]}" for name in sorted(misfits)]
        fitting = {name: tensor for name, tensor in state.items() if name not in misfits}
        missing, unexpected = network.load_state_dict(fitting, strict=False)
        missing = [name for name in missing if name not in misfits]
    if not (missing or unexpected or misshaped):
        return []
    mismatches = list_mismatches(missing, unexpected, misshaped)
    if strict:
        raise WeightsError(
            f"{source} does not fit {type(network).__name__}: {'; '.join(mismatches)}. "
            f"The file {describe_file(state, network_opt)}. "
            "Remedy: make network_g agree with it, or load what fits by path.strict_load_g: false"
        )
    left_out = [
        *(f"not in the file, left at its start value: {name}" for name in missing),
        *(f"in the file only, ignored: {name}" for name in unexpected),
        *(f"of another shape, ignored: {line}" for line in misshaped),
    ]
    logger.warning("%s was loaded in part into %s:\n  %s", source, type(network).__name__, "\n  ".join(left_out))
    return left_out


def list_mismatches(missing: Sequence[str], unexpected: Sequence[str], misshaped: Sequence[str]) -> list[str]:
    """Count each kind of mismatch and show its first few names."""
    kinds = (("missing in the file", missing), ("unknown to the network", unexpected), ("of another shape", misshaped))
    return [f"{len(names)} {kind} ({first_names(names)})" for kind, names in kinds if names]


def first_names(names: Sequence[str]) -> str:
    """Join the first few names; dots say that there are more."""
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")


def describe_file(state: Mapping[str, Tensor], network_opt: Mapping[str, Any] | None) -> str:
    """Say what network a file is of, as far as it tells.

    Args:
        state: its state_dict.
        network_opt: its network_g, or None.

    Returns:
        The rest of a sentence that begins with "the file".
    """
    size = f"{len(state)} tensors, {sum(tensor.numel() for tensor in state.values()) / 1e6:.2f}M numbers"
    if network_opt is not None:
        arguments = ", ".join(f"{key}={value!r}" for key, value in network_opt.items() if key != "type")
        return f"says that it is of {network_opt.get('type')}({arguments}) ({size})"
    for part, network_name in _TELLTALE_NAMES:
        if any(part in name for name in state):
            return f"seems to be of {network_name} ({size})"
    return f"does not tell its network ({size})"
