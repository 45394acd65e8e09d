"""From one weights file to another: format, number format, and what other programs need in it.

| to | for | network_g in it |
|---|---|---|
| .safetensors | hriusr; programs built on spandrel, with hriusr.spandrel_plugin | metadata and marker |
| .pth of SwinIR, HAT, Swin2SR | the original code, BasicSR, spandrel: with their buffers and masks | beside params |
| .pth of ours | as .safetensors | beside params, and marker |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hriusr.archs.detect import detect_network
from hriusr.archs.detect_parts import Detection
from hriusr.archs.marker import with_marker
from hriusr.archs.original_buffers import lacks_in_originals, with_original_buffers
from hriusr.archs.registry import complete_network_opt
from hriusr.archs.weights import build_from_state, find_network, read_weights_file, save_weights, weights_content
from hriusr.atomic_file import torch_bytes
from hriusr.checked_file import write_checked
from hriusr.errors import OptionsError, WeightsError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
ENDINGS = (".safetensors", ".pth")
_WITH_ORIGINALS = ("SwinIR", "HAT", "Swin2SR")


@dataclass
class Conversion:
    """What was found and written.

    Attributes:
        found: the network and what had to be assumed of it.
        says_network: whether the file itself said its network.
        num_parameters: learned values.
        target: the file that was written.
        notes: what the user should know of the result, one line each.
    """

    found: Detection
    says_network: bool
    num_parameters: int
    target: Path
    notes: list[str] = field(default_factory=list)


def convert_weights(
    source: str | Path,
    target: str | Path,
    *,
    prefer_ema: bool = True,
    settings: Mapping[str, Any] | None = None,
    dtype: str = "fp32",
    overwrite: bool = False,
) -> Conversion:
    """Read a file of SwinIR, HAT, Swin2SR or ours, check it by building its network, and write it anew, atomically.

    Args:
        source: .safetensors, or a file torch.load reads.
        target: ends in .safetensors or .pth.
        prefer_ema: take the running mean of the weights where there is one.
        settings: constructor arguments to use instead of what the file says or its tensors tell.
        dtype: number format of the stored weights: fp32, fp16, bf16. Halves the file; networks load it into fp32.
        overwrite: replace a target that exists. The source is never replaced.

    Raises:
        WeightsError: the source cannot be read or understood, or the target exists.
        OptionsError: another ending or number format.
    """
    source, target = Path(source), Path(target)
    if target.suffix not in ENDINGS:
        raise OptionsError(f"{target}: must end in {' or '.join(ENDINGS)}")
    if dtype not in DTYPES:
        raise OptionsError(f"dtype (={dtype!r}) must be one of {', '.join(DTYPES)}")
    if target.resolve() == source.resolve():
        raise WeightsError(f"{target} is the input itself: give another name for the output")
    if target.exists() and not overwrite:
        raise WeightsError(f"{target} exists: give --overwrite, or another name")
    file = read_weights_file(source, prefer_ema)
    found = find_network(file.state, file.network_opt, settings, source=source)
    network = build_from_state(file.state, found.network_opt, source=source)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    result = Conversion(found, file.network_opt is not None, num_parameters, target)
    network_opt = complete_network_opt(found.network_opt)
    state = _cast(network.state_dict(), dtype, source)
    if target.suffix == ".safetensors":
        save_weights(target, state, network_opt, file.metadata)
        return result
    content = weights_content(state, network_opt, file.metadata)
    if network_opt["type"] in _WITH_ORIGINALS:
        content["params"] = with_original_buffers(content["params"], network_opt)
        result.notes = _notes_on_originals(content["params"], network_opt)
    else:
        content["params"] = with_marker(content["params"], network_opt)
    write_checked(target, torch_bytes(content), start_list=False)
    return result


def _cast(state: Mapping[str, Tensor], dtype: str, source: Path) -> dict[str, Tensor]:
    cast = {name: tensor.to(DTYPES[dtype]) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    for name, tensor in cast.items():
        if state[name].isfinite().all() and not tensor.isfinite().all():
            raise WeightsError(
                f"{source}: {name} holds values up to {state[name].abs().max():.3g}: too large for {dtype}"
            )
    return cast


def _notes_on_originals(state: Mapping[str, Tensor], network_opt: Mapping[str, Any]) -> list[str]:
    """Say where programs that see only the tensors would take another network for it."""
    notes = []
    lacking = lacks_in_originals(network_opt)
    if lacking:
        notes.append(f"the original code of {network_opt['type']} and spandrel do not know {', '.join(lacking)}")
    seen = detect_network(state)
    for name in {**seen.assumed, **seen.doubtful}:
        if network_opt[name] != seen.network_opt[name]:
            notes.append(
                f"programs that read the tensors only take {name}={seen.network_opt[name]!r}, not {network_opt[name]!r}"
            )
    return notes
