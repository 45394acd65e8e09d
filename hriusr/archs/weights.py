"""Weights of networks in files: .pth as BasicSR, HAT and SwinIR write it, and .safetensors.

A .pth holds {"params": state_dict, "params_ema": state_dict, "network_g": constructor arguments}; a .safetensors holds
one state_dict and the constructor arguments, as JSON in its metadata and once more as a tensor (archs/marker.py). Files
of others (a bare state_dict, `module.` before each name, no network_g) are read too, and their networks found from the
tensors (archs/detect.py). Nothing in a file is ever executed: torch.load(weights_only=True).
"""

import json
import logging
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import Tensor, nn

from hriusr.archs.detect import detect_network, log_assumptions, set_arguments
from hriusr.archs.detect_parts import Detection
from hriusr.archs.marker import MARKER, read_marker, with_marker
from hriusr.archs.registry import as_plain, build_network, complete_network_opt
from hriusr.archs.weights_fit import apply_weights, describe_file, first_names
from hriusr.atomic_file import torch_bytes
from hriusr.checked_file import SUMS_NAME, is_damaged, write_checked
from hriusr.errors import OptionsError, WeightsError

logger = logging.getLogger(__name__)

StateDict = dict[str, Tensor]


class WeightsFile(NamedTuple):
    """What a weights file holds: one set of weights, and what it says about them."""

    state: StateDict
    network_opt: dict[str, Any] | None
    metadata: dict[str, Any]


# what wrappers put before each name: DataParallel and DistributedDataParallel, torch.compile
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")


def save_weights(
    path: str | Path,
    network: nn.Module | Mapping[str, Tensor],
    network_opt: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    ema: nn.Module | Mapping[str, Tensor] | None = None,
) -> None:
    """Write a network's weights, atomically.

    Args:
        path: ends in .pth or .safetensors.
        network: a network or its state_dict.
        network_opt: `type` and constructor arguments, stored with all defaults filled in.
        metadata: anything JSON can hold; stored under "metadata".
        ema: the running mean of the weights; in a .safetensors, which holds one set, it takes the network's place.

    Raises:
        WeightsError: another ending.
        HriusrError: the disk is full.
    """
    path = Path(path)
    content = weights_content(network, network_opt, metadata, ema=ema)
    if path.suffix == ".safetensors":
        strings = {"network_g": json.dumps(content["network_g"]), "metadata": json.dumps(content["metadata"])}
        # a clone each: safetensors refuses tensors that share memory
        state = {name: tensor.clone() for name, tensor in content.get("params_ema", content["params"]).items()}
        write_checked(path, safetensors_torch.save(with_marker(state, content["network_g"]), strings), start_list=False)
    elif path.suffix == ".pth":
        write_checked(path, torch_bytes(content), start_list=False)
    else:
        raise WeightsError(
            f"{path}: weights are written as .pth or .safetensors, not {path.suffix or 'without an ending'}"
        )


def weights_content(
    network: nn.Module | Mapping[str, Tensor],
    network_opt: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    ema: nn.Module | Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Collect what a .pth holds: copies on the CPU, so that training may go on while they are written.

    Args:
        network: a network or its state_dict.
        network_opt: `type` and constructor arguments.
        metadata: anything JSON can hold.
        ema: the running mean of the weights.
    """
    content: dict[str, Any] = {"params": _cpu_copy(network)}
    if ema is not None:
        content["params_ema"] = _cpu_copy(ema)
    content["network_g"] = complete_network_opt(network_opt)
    content["metadata"] = as_plain(metadata or {})
    return content


def load_weights(
    path: str | Path, prefer_ema: bool = True, key: str | None = None
) -> tuple[StateDict, dict[str, Any] | None]:
    """Read weights, ours or others'; arguments and errors as read_weights_file has them.

    Returns:
        (state_dict on the CPU without wrappers' prefixes, network_g or None where the file does not say).
    """
    return read_weights_file(path, prefer_ema, key)[:2]


def read_weights_file(path: str | Path, prefer_ema: bool = True, key: str | None = None) -> WeightsFile:
    """Read a weights file, ours or others'.

    Args:
        path: .safetensors, or a file torch.load reads.
        prefer_ema: take params_ema where a file holds both; else params. What the file lacks is replaced by the other.
        key: another entry of a .pth to take, in place of these; a .safetensors has none.

    Raises:
        WeightsError: missing, damaged, not weights, or without that entry.
    """
    path = Path(path)
    if not path.is_file():
        kind = "a folder, not a weights file" if path.is_dir() else "not there (paths are relative to where you run)"
        raise WeightsError(f"weights {path}: {kind}; give a .pth or .safetensors file")
    file = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pth(path, prefer_ema, key)
    if not file.state:
        raise WeightsError(f"{path} holds no tensors; is it a weights file?")
    state = _without_prefixes(file.state)
    network_opt = file.network_opt or read_marker(state)
    state.pop(MARKER, None)
    return WeightsFile(state, network_opt, file.metadata)


def _load_pth(path: Path, prefer_ema: bool, wanted: str | None) -> WeightsFile:
    content = load_torch_file(path)
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not weights; export a state_dict")
    network_opt, metadata = content.get("network_g"), content.get("metadata")
    if wanted is not None and not isinstance(content.get(wanted), Mapping):
        found = [str(key) for key, value in content.items() if isinstance(value, Mapping)]
        raise WeightsError(f"{path} has no entry {wanted!r} with weights; it has {first_names(found) or 'none'}")
    keys = ("params_ema", "params") if prefer_ema else ("params", "params_ema")
    for key in (wanted,) if wanted is not None else (*keys, "state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            if key == "params" and prefer_ema:
                logger.info("%s holds no params_ema; params are loaded", path)
            content = content[key]
            break
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(
            f"{path} holds no tensors (keys: {first_names(list(map(str, content)))}); is it a weights file?"
        )
    return WeightsFile(
        state,
        dict(network_opt) if isinstance(network_opt, Mapping) else None,
        dict(metadata) if isinstance(metadata, Mapping) else {},
    )


def load_torch_file(path: Path) -> Any:
    """Read what torch.save wrote (tensors and plain types only), after checking its checksums.

    Raises:
        WeightsError: damaged or cut short, or it holds other Python objects.
    """
    _refuse_damage(path)
    try:
        if zipfile.is_zipfile(path):  # older files are bare pickles without checksums
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
                if damaged is not None:
                    raise WeightsError(
                        f"{path} is damaged (checksum of {damaged} is wrong); use another checkpoint or copy"
                    )
                _refuse_export(path, archive)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        told = [line for line in str(error).splitlines() if "WeightsUnpickler error" in line]
        reason = told[0].split("WeightsUnpickler error:")[-1].strip() if told else "it was refused"
        if not zipfile.is_zipfile(path) and (not told or not reason):  # text, say: its first letter is no known code
            raise WeightsError(f"{path} is no weights file, or a damaged one: give a .pth or .safetensors") from error
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors and plain values, which is not loaded since it can run "
            f"any code ({reason}); save its state_dict alone"
        ) from error
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, ValueError, KeyError) as error:
        reason = str(error).split("\n", maxsplit=1)[0] or type(error).__name__
        raise WeightsError(f"{path} cannot be read ({reason}); it is damaged or cut short: use another copy") from error


def _refuse_export(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse TorchScript and torch.export files: they hold a program, whose weights are another file's."""
    names = archive.namelist()
    if any("/code/" in name or name.endswith(("/models/model.json", "/archive_format")) for name in names):
        raise WeightsError(
            f"{path} is an exported network, not a weights file: give the weights that it was made from, "
            "or upscale with the .onnx that hriusr export makes of them"
        )


def network_from_weights(
    path: str | Path, prefer_ema: bool = True, settings: Mapping[str, Any] | None = None
) -> nn.Module:
    """Rebuild a network from a file alone, ours or a published one of SwinIR, HAT or Swin2SR.

    Args:
        path: a weights file.
        prefer_ema: take the running mean of the weights where there is one.
        settings: constructor arguments to use instead of what the file says or its tensors tell.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        WeightsError: no such file, or nobody can tell what network it belongs to, or it does not fit that.
    """
    state, network_opt = load_weights(path, prefer_ema)
    found = find_network(state, network_opt, settings, source=path)
    if network_opt is None:
        log_assumptions(found, path)
    return build_from_state(state, found.network_opt, source=path)


def find_network(
    state: StateDict,
    network_opt: Mapping[str, Any] | None,
    settings: Mapping[str, Any] | None = None,
    *,
    source: str | Path,
) -> Detection:
    """Find `type` and constructor arguments of a file: as it says, else as its tensors tell.

    Args:
        state: what load_weights returned.
        network_opt: what load_weights returned.
        settings: arguments to use instead; with a `type` among them nothing has to be found.
        source: the file, for messages.

    Raises:
        WeightsError: nobody can tell.
    """
    settings = settings or {}
    if network_opt is not None:
        return Detection({**network_opt, **settings})
    if "type" in settings:
        return Detection(dict(settings))
    found = detect_network(state, source=source)
    if found is None:
        raise WeightsError(
            f"{source} does not say with what arguments its network was built; it {describe_file(state, None)}. "
            "Remedy: an option file with them (network_g) and this file (path.pretrain_network_g) for hriusr test"
        )
    return set_arguments(found, settings)


def build_from_state(state: StateDict, network_opt: Mapping[str, Any], *, source: str | Path) -> nn.Module:
    """Build a network and load a state_dict into it, strictly.

    Args:
        state: what load_weights returned.
        network_opt: `type` and constructor arguments.
        source: the file, for messages.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        WeightsError: the network cannot be built, or the state_dict does not fit it.
    """
    try:
        network = build_network(network_opt)
    except OptionsError as error:
        raise WeightsError(f"{source}: its network cannot be built here: {error}") from error
    remedy = "if its arguments are other ones, set them; else it is of a variant that is not supported here"
    apply_weights(network, state, source=source, network_opt=network_opt, remedy=remedy)
    return network.eval()


def _load_safetensors(path: Path) -> WeightsFile:
    from safetensors import safe_open

    _refuse_damage(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            strings = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
        network_opt = json.loads(strings["network_g"]) if "network_g" in strings else None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); it is damaged or cut short: use another copy") from error
    try:
        metadata = json.loads(strings.get("metadata", "{}"))
    except json.JSONDecodeError:  # somebody else's key of that name
        metadata = {}
    return WeightsFile(
        state, network_opt if isinstance(network_opt, dict) else None, metadata if isinstance(metadata, dict) else {}
    )


def _refuse_damage(path: Path) -> None:
    try:
        damaged = is_damaged(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror or error}): use another copy") from error
    if damaged:
        raise WeightsError(
            f"{path} is damaged or was changed: its SHA-256 differs from {SUMS_NAME} beside it; use another checkpoint "
            "or copy, or delete its line there if the change was yours"
        )


def _cpu_copy(network: nn.Module | Mapping[str, Tensor]) -> StateDict:
    state = network.state_dict() if isinstance(network, nn.Module) else network
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    return _without_prefixes(copies)


def _without_prefixes(state: Mapping[str, Tensor]) -> StateDict:
    for prefix in _WRAPPER_PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return _without_prefixes({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return dict(state)
