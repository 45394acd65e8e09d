"""Does a state_dict fit a network: load it, whole or what fits, or say what is missing and whose the file seems to be.

In part is for x4 after x2, as HAT is trained: the body has the same names and shapes, the head only some of them.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hriusr.archs.registry import complete_network_opt
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
_LEAST_SHARE = 0.25  # of a network's numbers; twice the depth still finds about a half, another network next to none
_REMEDY = "make network_g agree with it, or load what fits by path.strict_load_g: false"


def apply_weights(
    network: nn.Module,
    state: dict[str, Tensor],
    *,
    source: str | Path,
    network_opt: Mapping[str, Any] | None,
    strict: bool = True,
    remedy: str = _REMEDY,
) -> list[str]:
    """Load a state_dict into a network.

    Args:
        network: the bare network; where this raises, untouched if not strict, else maybe half-loaded.
        state: what load_weights returned.
        source: file name, for messages.
        network_opt: the file's network_g, for messages.
        strict: every name and shape must agree; else what fits is loaded and the log says by groups what was and what
            was not: the head of another scale starts new, its layers that fit do not.
        remedy: what the user can do where a strict load fails.

    Returns:
        What was not loaded, a line each kind; empty when strict, or when all was.

    Raises:
        WeightsError: the file does not fit; or not strict, and so little fits that it is another network's.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    misshaped = {name for name, tensor in state.items() if tuple(tensor.shape) != expected.get(name, tensor.shape)}
    if not strict:
        _check_share(network, state, expected, source, network_opt)
    fitting = {name: tensor for name, tensor in state.items() if name not in misshaped}
    missing, unexpected = network.load_state_dict(fitting, strict=False)  # hooks of the network drop what it derives
    missing = [name for name in missing if name not in misshaped]
    if not (missing or unexpected or misshaped):
        return []
    shapes = [f"{name}: file {tuple(state[name].shape)}, network {expected[name]}" for name in sorted(misshaped)]
    if strict:
        mismatches = list_mismatches(missing, unexpected, shapes)
        raise WeightsError(
            f"{source} does not fit {type(network).__name__}; {remedy}. "
            f"The file {describe_file(state, network_opt)}. Names: {'; '.join(mismatches)}"
        )
    loaded = [name for name in fitting if name in expected]
    left_out = _left_out_lines(missing, unexpected, sorted(misshaped), state, network)
    lines = [f"loaded: {_by_groups(loaded, state)}", *left_out]
    logger.warning("%s was loaded in part into %s:\n  %s", source, type(network).__name__, "\n  ".join(lines))
    return left_out


def _check_share(
    network: nn.Module,
    state: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    source: str | Path,
    network_opt: Mapping[str, Any] | None,
) -> None:
    """Refuse a file of which too little fits: training would start from scratch without a word.

    Raises:
        WeightsError: less than _LEAST_SHARE of the network's numbers are there.
    """
    num_fitting = sum(tensor.numel() for name, tensor in state.items() if expected.get(name) == tuple(tensor.shape))
    num_all = sum(tensor.numel() for tensor in network.state_dict().values())
    if num_fitting < _LEAST_SHARE * num_all:
        raise WeightsError(
            f"{source} is of another network: {num_fitting:,} of the {num_all:,} numbers of {type(network).__name__} "
            f"fit, fewer than {_LEAST_SHARE:.0%}; make network_g agree with it, give another file, or leave "
            f"path.pretrain_network_g out. The file {describe_file(state, network_opt)}"
        )


def _left_out_lines(
    missing: Sequence[str],
    unexpected: Sequence[str],
    misshaped: Sequence[str],
    state: Mapping[str, Tensor],
    network: nn.Module,
) -> list[str]:
    own = network.state_dict()
    lines = []
    if missing:
        lines.append(f"not in the file, left at start values: {_by_groups(missing, own)}")
    if misshaped:
        example = misshaped[0]
        lines.append(
            f"of another shape in the file, left at start values: {_by_groups(misshaped, own)}, as "
            f"{example}: file {tuple(state[example].shape)}, network {tuple(own[example].shape)}"
        )
    if unexpected:
        lines.append(f"in the file only, ignored: {_by_groups(unexpected, state)}")
    return lines


def _by_groups(names: Sequence[str], tensors: Mapping[str, Tensor]) -> str:
    """Count tensors and name their groups: `layers.0-5, norm (86 tensors, 1,234 numbers)`."""
    groups: dict[str, list[int]] = {}
    for name in names:
        first, *more = name.split(".")
        numbers = groups.setdefault(first, [])
        if len(more) > 1 and more[0].isdecimal() and int(more[0]) not in numbers:
            numbers.append(int(more[0]))
    parts = [f"{first}.{_spans(numbers)}" if numbers else first for first, numbers in groups.items()]
    num_values = sum(tensors[name].numel() for name in names)
    return f"{', '.join(parts) or 'nothing'} ({len(names)} tensors, {num_values:,} numbers)"


def _spans(numbers: Sequence[int]) -> str:
    """Write numbers with their runs joined: 0-2,5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def list_mismatches(missing: Sequence[str], unexpected: Sequence[str], misshaped: Sequence[str]) -> list[str]:
    """Count each kind of mismatch and show its first few names."""
    kinds = (("missing in the file", missing), ("unknown to the network", unexpected), ("of another shape", misshaped))
    return [f"{len(names)} {kind} ({first_names(names)})" for kind, names in kinds if names]


def first_names(names: Sequence[str]) -> str:
    """Join the first few names; dots say that there are more."""
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")


def _written(network_opt: Mapping[str, Any]) -> str:
    """Write a network's type, its scale, and the arguments that differ from the constructor's defaults."""
    defaults = complete_network_opt({"type": network_opt.get("type")})
    shown = {
        key: value
        for key, value in network_opt.items()
        if key == "upscale" or key not in defaults or defaults[key] != value
    }
    arguments = [f"{key}={value!r}" for key, value in shown.items()]
    if len(shown) < len(network_opt) - 1:
        arguments.append("else defaults")
    return f"{network_opt.get('type')}({', '.join(arguments)})"


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
        return f"says that it is of {_written(network_opt)} ({size})"
    for part, network_name in _TELLTALE_NAMES:
        if any(part in name for name in state):
            return f"seems to be of {network_name} ({size})"
    return f"does not tell its network ({size})"
