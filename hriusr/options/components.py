"""Check `type: X` sections against the classes and functions that are registered, by their signatures.

The option layer imports none of them: whoever loads options passes the signatures in.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from hriusr.errors import OptionsError
from hriusr.options.basicsr_form import phase_of
from hriusr.options.checks import is_used
from hriusr.options.foreign import REFUSED_DATASETS, REFUSED_MODELS
from hriusr.options.problems import Problems, dotted
from hriusr.options.schema import MetricOptions, NetworkOptions, Options
from hriusr.options.section import as_integer, as_number
from hriusr.options.spelling import did_you_mean
from hriusr.options.train_schema import GANLossOptions, LossOptions, TrainOptions
from hriusr.options.yaml_source import KeyPath

NetworkSignature = Callable[[str], inspect.Signature | None]
BuildNetwork = Callable[[Mapping[str, Any]], object]
Components = Mapping[str, Mapping[str, inspect.Signature]]

_UPSCALE_ARGUMENTS = ("upscale", "scale")
_CHANNEL_ARGUMENTS = ("in_chans", "num_in_ch", "in_channels", "num_out_ch", "out_channels")
# what an annotation asks for, in words: one of it, several
_WORDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "texts"),
}


def check_network(
    options: Options,
    problems: Problems,
    network_signature: NetworkSignature,
    known_networks: Callable[[], Iterable[str]] | None,
    build_network: BuildNetwork | None,
    *,
    is_train: bool,
) -> None:
    """Check type and arguments of networks, and whether network_g suits scale and colours of the datasets.

    Text becomes numbers where it should, in place. With build_network, networks whose arguments have the right types
    are built: their constructors check the rest.
    """
    signatures = {}
    for key in ("network_g", "network_d") if is_train else ("network_g",):
        network = getattr(options, key)
        if network is None:
            continue
        signature = signatures[key] = network_signature(network.type)
        if signature is None:
            known = did_you_mean(network.type, known_networks() if known_networks else [])
            problems.error((key, "type"), f"unknown network {network.type!r}{known}")
            continue
        num_errors = len(problems.errors)
        _check_arguments(network, signature, (key,), f"network {network.type}", problems, skip=())
        if build_network is not None and len(problems.errors) == num_errors:
            _check_building(network, key, build_network, problems)
    if signatures["network_g"] is not None:
        _check_upscale(options, signatures["network_g"], problems)
        _check_channels(options, signatures["network_g"], problems, is_train)


def _check_upscale(options: Options, signature: inspect.Signature, problems: Problems) -> None:
    network = options.network_g
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


def _check_channels(options: Options, signature: inspect.Signature, problems: Problems, is_train: bool) -> None:
    """Compare with datasets.*.color: what differs may well run, by broadcasting, on a wrong loss."""
    network, takes = options.network_g, {}
    for name in filter(signature.parameters.__contains__, _CHANNEL_ARGUMENTS):
        written = (network.model_extra or {}).get(name)
        channels = signature.parameters[name].default if written is None else written
        if isinstance(channels, int):
            default = "" if written is not None else f", default of {network.type}"
            takes[f"network_g.{name} (={channels}{default})"] = channels
    for entry, dataset in options.datasets.items():
        is_one = dataset.color in ("y", "grey")
        others = " and ".join(words for words, channels in takes.items() if channels != (1 if is_one else 3))
        if not others or not is_used(entry, is_train):
            continue
        if is_one:
            message = f"(={dataset.color!r}) gives 1 channel, but {others}; set that to 1, or leave color out for RGB"
        else:
            message = f"is neither y nor grey and gives RGB's 3 channels, but {others}; set color, or that to 3"
        problems.error(("datasets", entry, "color"), f"datasets.{entry}.color {message}")


def _check_building(network: NetworkOptions, key: str, build_network: BuildNetwork, problems: Problems) -> None:
    try:
        build_network(network.model_dump())
    except OptionsError as error:
        message = str(error)
    except (ArithmeticError, AssertionError, AttributeError, LookupError) as error:  # of classes that are not ours
        message = f"{key} ({network.type}): building it fails ({type(error).__name__}: {error}); check the values"
    else:
        return
    named = [(message.find(f" {name} (="), name) for name in network.model_extra or {} if f" {name} (=" in message]
    # the registry calls every network network_g
    problems.error((key, min(named)[1]) if named else (key,), message.replace("network_g", key, 1))


def check_components(options: Options, problems: Problems, components: Components, *, is_train: bool) -> None:
    """Check the names of training step, datasets, losses and metrics, and the arguments of the last two.

    Args:
        options: validated options; numbers written as text become numbers, in place.
        problems: where to note what is wrong.
        components: "model", "dataset", "loss", "gan_loss", "metric" -> name -> signature; a kind that
            is left out is not checked.
        is_train: for train.py; else what only training reads is not looked at.
    """
    if "model" in components:
        path = ("model_type",)
        _check_name(options.model_type, "model_type", path, components["model"], REFUSED_MODELS, problems)
    if "dataset" in components:
        for entry, dataset in options.datasets.items():
            if is_used(entry, is_train) or phase_of(entry) not in ("train", "val", "test"):
                path = ("datasets", entry, "type")
                _check_name(dataset.type, "dataset", path, components["dataset"], REFUSED_DATASETS, problems)
    if is_train and options.train:
        _check_losses(options.train, components, problems)
    if options.val and options.val.metrics and "metric" in components:
        for label, metric in options.val.metrics.items():
            # the pictures themselves are the first arguments, img and img2
            path = ("val", "metrics", label)
            _check_component(metric, path, "metric", components, problems, skip=("img", "img2"))
            order = (metric.model_extra or {}).get("input_order", "HWC")
            if order != "HWC":
                problems.error(
                    (*path, "input_order"),
                    f"val.metrics.{label}.input_order (={order}) must be HWC, or left out: pictures come so",
                )
        _warn_of_metrics_without_gt(options, components["metric"], problems, is_train)


def _warn_of_metrics_without_gt(
    options: Options, metrics: Mapping[str, inspect.Signature], problems: Problems, is_train: bool
) -> None:
    """Name the metrics that a set without ground truth does not get; NIQE needs none."""
    needing = [
        label
        for label, metric in options.val.metrics.items()
        if metric.type in metrics and "img2" in metrics[metric.type].parameters
    ]
    for entry, dataset in options.datasets.items():
        if needing and dataset.type == "SingleImageDataset" and is_used(entry, is_train) and phase_of(entry) != "train":
            problems.warn(
                ("datasets", entry), f"datasets.{entry} does not get {', '.join(needing)}: {dataset.type} has no gt"
            )


def _check_losses(train: TrainOptions, components: Components, problems: Problems) -> None:
    if "loss" in components:
        for key in ("pixel_opt", "perceptual_opt", "aux_opt"):
            loss = getattr(train, key)
            if loss is not None:
                _check_component(loss, ("train", key), "loss", components, problems, skip=())
                _check_kind(loss.type, key, components["loss"], problems)
        for name, loss in (train.losses or {}).items():
            _check_component(loss, ("train", "losses", name), "loss", components, problems, skip=())
    if train.gan_opt and "gan_loss" in components:
        _check_component(train.gan_opt, ("train", "gan_opt"), "gan_loss", components, problems, skip=())


def _check_kind(name: str, key: str, losses: Mapping[str, inspect.Signature], problems: Problems) -> None:
    """Refuse a loss of two numbers, perceptual and style, where one is read, and the other way round."""
    is_pair = name in losses and "perceptual_weight" in losses[name].parameters
    if name not in losses or is_pair == (key == "perceptual_opt"):
        return
    fitting = "perceptual_opt" if is_pair else "pixel_opt"
    what = "a perceptual and a style loss" if is_pair else "one number, not a perceptual and a style loss"
    problems.error(
        ("train", key, "type"),
        f"train.{key}.type: {name} gives {what}; write it under train.{fitting} or train.losses",
    )


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
        if value is None:  # unset: the default stands
            delattr(section, name)
            continue
        value, complaint = _cast(value, by_name[name])
        if complaint:
            problems.error((*path, name), f"{dotted((*path, name))} (={value!r}) {complaint}")
        setattr(section, name, value)
    for name, parameter in by_name.items():
        if parameter.default is parameter.empty and written.get(name) is None and name not in own_fields:
            problems.error(path, f"{what} needs the argument {name!r}; write it under {dotted(path)}")


def _cast(value: Any, parameter: inspect.Parameter) -> tuple[Any, str]:
    """Read a value as the parameter's type, told by its default and its annotation; say what does not fit."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        # BasicSR's classes have no annotations, and an int default may well take a float there (res_scale=1)
        annotation = type(parameter.default) if type(parameter.default) in (float, bool, str) else Any
    read, fits = _read_as(value, annotation)
    return (read, "") if fits else (value, f"must be {_in_words(annotation)}")


def _read_as(value: Any, annotation: Any) -> tuple[Any, bool]:
    """Turn text into numbers where the annotation asks for some; tell whether the value fits. Others fit always."""
    choices = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        tried = [_read_as(value, choice) for choice in choices]
        return next((item for item in tried if item[1]), (value, False))
    if get_origin(annotation) in (list, tuple, Sequence):
        if not isinstance(value, (list, tuple)):
            return value, False
        items = [_read_as(item, choices[0]) for item in value]
        return [item for item, _ in items], all(fits for _, fits in items)
    if annotation in (bool, str, NoneType):
        return value, isinstance(value, annotation)
    if annotation not in (int, float):
        return value, True
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return value, False
    number = as_integer(value) if annotation is int else as_number(value)
    return number, isinstance(number, (int, annotation))


def _in_words(annotation: Any, *, several: bool = False) -> str:
    choices = [choice for choice in get_args(annotation) if choice not in (NoneType, Ellipsis)]
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_in_words(choice, several=several) for choice in choices)
    if get_origin(annotation) in (list, tuple, Sequence):
        return f"{'lists' if several else 'a list'} of {_in_words(choices[0], several=True)}"
    return _WORDS.get(annotation, ("a value", "values"))[several]
