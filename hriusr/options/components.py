"""Check `type: X` sections against the classes and functions that are registered, by their signatures.

The option layer imports none of them: whoever loads options passes the signatures in.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hriusr.options.foreign import REFUSED_DATASETS, REFUSED_MODELS
from hriusr.options.problems import Problems, dotted
from hriusr.options.schema import MetricOptions, NetworkOptions, Options
from hriusr.options.section import as_integer, as_number
from hriusr.options.spelling import did_you_mean
from hriusr.options.train_schema import GANLossOptions, LossOptions
from hriusr.options.yaml_source import KeyPath

NetworkSignature = Callable[[str], inspect.Signature | None]
Components = Mapping[str, Mapping[str, inspect.Signature]]

_UPSCALE_ARGUMENTS = ("upscale", "scale")


def check_network(
    options: Options,
    problems: Problems,
    network_signature: NetworkSignature,
    known_networks: Callable[[], Iterable[str]] | None,
) -> None:
    """Check type and arguments of networks, and network_g's upscale; text becomes numbers where it should, in place."""
    signatures = {}
    for key in ("network_g", "network_d"):
        network = getattr(options, key)
        if network is None:
            continue
        signature = signatures[key] = network_signature(network.type)
        if signature is None:
            known = did_you_mean(network.type, known_networks() if known_networks else [])
            problems.error((key, "type"), f"unknown network {network.type!r}{known}")
        else:
            _check_arguments(network, signature, (key,), f"network {network.type}", problems, skip=())
    network, signature = options.network_g, signatures["network_g"]
    if signature is None:
        return
    name = next((name for name in _UPSCALE_ARGUMENTS if name in signature.parameters), None)
    if name is None:
        return
    written = (network.model_extra or {}).get(name)
    upscale = signature.parameters[name].default if written is None else written
    if isinstance(upscale, int) and upscale != options.scale:
        default = "" if written is not None else f", {network.type}'s default"
        problems.error(
            ("network_g", name) if written is not None else ("scale",),
            f"scale (={options.scale}) differs from network_g.{name} (={upscale}{default}); make them equal",
        )


def check_components(options: Options, problems: Problems, components: Components) -> None:
    """Check the names of training step, datasets, losses and metrics, and the arguments of the last two.

    Args:
        options: validated options; numbers written as text become numbers, in place.
        problems: where to note what is wrong.
        components: "model", "dataset", "loss", "gan_loss", "metric" -> name -> signature; a kind that
            is left out is not checked.
    """
    if "model" in components:
        path = ("model_type",)
        _check_name(options.model_type, "model_type", path, components["model"], REFUSED_MODELS, problems)
    if "dataset" in components:
        for entry, dataset in options.datasets.items():
            path = ("datasets", entry, "type")
            _check_name(dataset.type, "dataset", path, components["dataset"], REFUSED_DATASETS, problems)
    if options.train and "loss" in components:
        for key in ("pixel_opt", "perceptual_opt", "aux_opt"):
            loss = getattr(options.train, key)
            if loss is not None:
                _check_component(loss, ("train", key), "loss", components, problems, skip=())
        for name, loss in (options.train.losses or {}).items():
            _check_component(loss, ("train", "losses", name), "loss", components, problems, skip=())
    if options.train and options.train.gan_opt and "gan_loss" in components:
        _check_component(options.train.gan_opt, ("train", "gan_opt"), "gan_loss", components, problems, skip=())
    if options.val and options.val.metrics and "metric" in components:
        for label, metric in options.val.metrics.items():
            # the pictures themselves are the first arguments, img and img2
            path = ("val", "metrics", label)
            _check_component(metric, path, "metric", components, problems, skip=("img", "img2"))


def _check_name(
    name: str, what: str, path: KeyPath, known: Iterable[str], refused: Mapping[str, str], problems: Problems
) -> None:
    if name in known:
        return
    reason = refused.get(name)
    if reason is not None:
        problems.error(path, f"{name} is not supported: {reason}")
    else:
        problems.error(path, f"unknown {what} {name!r}{did_you_mean(name, known)}")


def _check_component(
    section: LossOptions | GANLossOptions | MetricOptions,
    path: KeyPath,
    kind: str,
    components: Components,
    problems: Problems,
    skip: tuple[str, ...],
) -> None:
    signature = components[kind].get(section.type)
    if signature is None:
        known = did_you_mean(section.type, components[kind])
        problems.error((*path, "type"), f"unknown {kind} {section.type!r}{known}")
        return
    _check_arguments(section, signature, path, f"{kind} {section.type}", problems, skip)


def _check_arguments(
    section: NetworkOptions | LossOptions | GANLossOptions | MetricOptions,
    signature: inspect.Signature,
    path: KeyPath,
    what: str,
    problems: Problems,
    skip: tuple[str, ...],
) -> None:
    by_name = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in skip and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    written = dict(section.model_extra or {})
    own_fields = set(type(section).model_fields)
    for name, value in written.items():
        if name not in by_name:
            problems.error((*path, name), f"{what} has no argument {name!r}{did_you_mean(name, by_name)}")
            continue
        value, complaint = _cast(value, by_name[name])
        if complaint:
            problems.error((*path, name), f"{dotted((*path, name))} (={value!r}) {complaint}")
        setattr(section, name, value)
    for name, parameter in by_name.items():
        if parameter.default is parameter.empty and name not in written and name not in own_fields:
            problems.error(path, f"{what} needs the argument {name!r}; write it under {dotted(path)}")


def _cast(value: Any, parameter: inspect.Parameter) -> tuple[Any, str]:
    """Read a value as the parameter's type, told by its default and its annotation; say what does not fit."""
    kind = _kind_of(parameter)
    if kind is None or value is None:
        return value, ""
    if kind is bool:
        return value, "" if isinstance(value, bool) else "must be true or false"
    if kind is str:
        return value, "" if isinstance(value, str) else "must be text"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return value, "must be a number"
    number = as_integer(value) if kind is int else as_number(value)
    if isinstance(number, str) or (kind is int and not isinstance(number, int)):
        return value, f"must be {'a whole number' if kind is int else 'a number'}"
    return number, ""


def _kind_of(parameter: inspect.Parameter) -> type | None:
    """Tell int, float, bool or str from the annotation or, without one, from a float, bool or str default."""
    if parameter.annotation is not parameter.empty:
        words = set(re.findall(r"\w+", inspect.formatannotation(parameter.annotation))) - {"None", "Optional", "typing"}
        kinds = {"int": int, "float": float, "bool": bool, "str": str}
        return kinds.get(words.pop()) if len(words) == 1 else None
    # BasicSR's classes have no annotations, and an int default may well take a float there (res_scale=1)
    return type(parameter.default) if type(parameter.default) in (float, bool, str) else None
