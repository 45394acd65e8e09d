"""Networks by name: build one from an option dict, list the names, look up a constructor's signature."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from hriusr.archs.argument_values import check_values
from hriusr.basicsr_bridge import ARCH_REGISTRY, register_package
from hriusr.errors import OptionsError

_SUFFIX = "_basicsr"
# of BasicSR's networks those for video and faces, and parts of losses
_OTHERS = {"BasicVSR", "BasicVSRPlusPlus", "DFDNet", "DUF", "EDVR", "HiFaceGAN", "HiFaceGANDiscriminator", "IconVSR"}
_OTHERS |= {"SpyNet", "StyleGAN2Discriminator", "StyleGAN2Generator", "TOFlow", "VGGFeatureExtractor"}


def known_networks() -> list[str]:
    """List the names that network_g.type may have, ours and BasicSR's, sorted."""
    register_package()
    names = {name.removesuffix(_SUFFIX) for name in ARCH_REGISTRY.keys()}
    return sorted(names - _OTHERS)


def network_signature(type_name: str) -> inspect.Signature | None:
    """Return the constructor's signature of a registered network, or None where the name is unknown."""
    register_package()
    network_class = _find(type_name)
    return None if network_class is None else inspect.signature(network_class)


def _find(type_name: str) -> type[nn.Module] | None:
    """Return a registered class; BasicSR too takes a name without the ending that it gives to some of its own."""
    name = next((name for name in (type_name, type_name + _SUFFIX) if name in ARCH_REGISTRY), None)
    return None if name is None or name in _OTHERS else ARCH_REGISTRY.get(name)


def build_network(network_opt: Mapping[str, Any]) -> nn.Module:
    """Build a network.

    Args:
        network_opt: `type` and the constructor's keyword arguments; not changed.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        OptionsError: no type, an unknown type or argument, or values the constructor refuses.
    """
    arguments = dict(network_opt)
    type_name = arguments.pop("type", None)
    if not isinstance(type_name, str):
        found = "has no `type`" if type_name is None else f"has the `type` {type_name!r}, which is no name"
        raise OptionsError(f"network_g {found}; one of {', '.join(known_networks())}")
    signature = network_signature(type_name)
    if signature is None:
        raise OptionsError(f"network_g.type: unknown network {type_name!r}{_did_you_mean(type_name, known_networks())}")
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise OptionsError(f"network_g ({type_name}): {error}{_spelling(arguments, signature)}") from error
    network_class = _find(type_name)
    is_ours = network_class.__module__.startswith(f"{__package__}.")
    try:
        if is_ours:
            check_values(arguments, signature)
        return network_class(**arguments)
    except ValueError as error:
        raise OptionsError(f"network_g ({type_name}): {error}") from error
    except (TypeError, ArithmeticError, RuntimeError) as error:  # values of theirs, or sizes beyond the memory
        raise OptionsError(f"network_g ({type_name}, {_written(arguments)}): {error}; check the values") from error


def complete_network_opt(network_opt: Mapping[str, Any]) -> dict[str, Any]:
    """Add the constructor's defaults, so that stored weights can be rebuilt after a default has changed.

    Args:
        network_opt: `type` and the constructor's keyword arguments; not changed.

    Returns:
        A plain dict (numbers, strings, booleans, None, lists, dicts); defaults of other types are left out.
    """
    complete = {"type": network_opt["type"]}
    signature = network_signature(network_opt["type"])
    for name, parameter in signature.parameters.items() if signature else ():
        if parameter.default is not inspect.Parameter.empty and _is_plain(parameter.default):
            complete[name] = as_plain(parameter.default)
    return complete | as_plain(network_opt)


def as_plain(value: Any) -> Any:
    """Turn mappings into dicts and sequences into lists, all the way down: what torch.load(weights_only=True) takes."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    if not _is_plain(value):
        raise TypeError(f"{value!r} is a {type(value).__name__}; only plain YAML values can be stored with weights")
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def _written(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def _spelling(arguments: dict[str, Any], signature: inspect.Signature) -> str:
    """Name the nearest argument of the constructor for each unknown key."""
    hints = [
        f"; instead of {key!r}{_did_you_mean(key, list(signature.parameters), lead='')}"
        for key in arguments
        if key not in signature.parameters
    ]
    return "".join(hints)


def _did_you_mean(word: str, known: list[str], lead: str = ";") -> str:
    by_lower_case = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(word.lower(), list(by_lower_case), n=1, cutoff=0.5)
    if nearest:
        return f"{lead} did you mean {by_lower_case[nearest[0]]!r}?"
    return f"{lead} it takes one of {', '.join(known)}"
