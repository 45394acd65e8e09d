"""Check the values of a network's arguments by its constructor's signature, before the constructor meets them."""

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Union, get_args, get_origin

# annotation -> what it takes, in words; whether a value is that
_SCALARS: dict[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, Integral) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)),
    str: ("text", lambda value: isinstance(value, str)),
    type(None): ("null", lambda value: value is None),
}
# of these, 0 makes no network; no argument of ours is negative
_POSITIVE = {
    "upscale",
    "in_chans",
    "embed_dim",
    "embed_dims",
    "transformer_dim",
    "num_feat",
    "img_range",
    "window_size",
    "patch_size",
    "kernel_size",
    "head_dim",
    "group_channels",
    "reduction",
    "compress_ratio",
    "squeeze_factor",
    "expand_ratio",
}


def check_values(arguments: Mapping[str, Any], signature: inspect.Signature) -> None:
    """Check types and signs of arguments, all of which the signature has.

    Args:
        arguments: name -> value.
        signature: of a constructor of ours, with annotations.

    Raises:
        ValueError: naming the argument, its value and what fits.
    """
    for name, value in arguments.items():
        annotation = signature.parameters[name].annotation
        if not _fits(value, annotation):
            raise ValueError(f"{name} (={value!r}) must be {_in_words(annotation)}")
        least = min(_numbers(value), default=math.inf)
        if least < 0 or (least == 0 and name in _POSITIVE):
            raise ValueError(f"{name} (={value!r}) must be {'more than 0' if name in _POSITIVE else 'at least 0'}")


def _fits(value: Any, annotation: Any) -> bool:
    if annotation in _SCALARS:
        return _SCALARS[annotation][1](value)
    choices = get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_fits(value, choice) for choice in choices)
    if get_origin(annotation) in (tuple, list, Sequence):
        return isinstance(value, (list, tuple)) and all(_fits(item, choices[0]) for item in value)
    return True


def _in_words(annotation: Any) -> str:
    if annotation in _SCALARS:
        return _SCALARS[annotation][0]
    choices = get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_in_words(choice) for choice in choices)
    return f"a list, each {_in_words(choices[0])}"


def _numbers(value: Any) -> list[float]:
    """List the numbers in a value, which may be lists of lists."""
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, Real) and not isinstance(value, bool) else []
