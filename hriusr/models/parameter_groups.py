"""Which parameters learn at which rate, and which of them decay."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from hriusr.errors import OptionsError


def is_kernel(name: str, parameter: Tensor) -> bool:
    """Tell the kernel of a linear or convolutional layer from norms, biases, scales and relative tables.

    Args:
        name: dotted, of the parameter.
        parameter: itself.
    """
    return parameter.ndim >= 2 and "weight" in name.rpartition(".")[2]


def parameter_groups(
    network: nn.Module,
    *,
    no_decay_norm_bias: bool = False,
    lr_mult: Mapping[str, float] | None = None,
    place: str = "train.optim_g",
) -> list[dict[str, Any]]:
    """Sort the parameters to train into an optimiser's groups.

    Args:
        network: neither wrapped nor compiled, so that names are those of checkpoints.
        no_decay_norm_bias: only kernels decay (see is_kernel).
        lr_mult: pattern of parameter names (shell style: `layers.*`) -> factor of the rate; the first that fits counts.
        place: key of the options, for messages.

    Returns:
        Groups {params, lr_mult, and weight_decay: 0 where nothing decays}, those with factor 1 first; one alone, as
        in BasicSR, where nothing is asked for.

    Raises:
        OptionsError: a pattern that fits no parameter.
    """
    lr_mult = dict(lr_mult or {})
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    for pattern in lr_mult:
        if not any(fnmatchcase(name, pattern) for name, _ in named):
            parts = ", ".join(dict.fromkeys(name.split(".")[0] for name, _ in named))
            raise OptionsError(
                f"{place}.lr_mult: no trained parameter has a name like {pattern!r}; the network's parts are {parts} "
                f"(write for example '{named[0][0].split('.')[0]}.*')"
            )
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        factor = next((factor for pattern, factor in lr_mult.items() if fnmatchcase(name, pattern)), 1.0)
        decays = not no_decay_norm_bias or is_kernel(name, parameter)
        groups.setdefault((float(factor), decays), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: item[0][0] != 1.0)
    return [
        {"params": members, "lr_mult": factor, **({} if decays else {"weight_decay": 0.0})}
        for (factor, decays), members in ordered
    ]
