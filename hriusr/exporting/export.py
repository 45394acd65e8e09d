"""Export a network to a file: built, captured, compared with itself at five sizes, then written whole or not at all."""

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hriusr import __version__
from hriusr.archs.convert import DTYPES, convert_weights
from hriusr.archs.registry import build_network, complete_network_opt
from hriusr.archs.weights import build_from_state, find_network, read_weights_file
from hriusr.atomic_file import check_writable
from hriusr.checked_file import write_checked
from hriusr.errors import OptionsError, WeightsError
from hriusr.exporting.capture import Served, example_picture, exporting_branches
from hriusr.exporting.check import largest_errors, refuse_above
from hriusr.exporting.formats import (
    ENDINGS,
    SMALLEST_OPSET,
    onnx_bytes,
    read_back,
    torch_export_bytes,
    torchscript_bytes,
)
from hriusr.upscaling.exported_facts import ExportedFacts
from hriusr.upscaling.memory_plan import bytes_per_pixel
from hriusr.upscaling.picture_upscaler import PictureUpscaler

# resident memory of onnxruntime over what PyTorch was measured to need for the same graph: 0.85 to 1.63 (LOG.md)
RUNTIME_ALLOWANCE = 2.0


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        target: the file.
        facts: what it says of itself.
        errors: (batch, height, width) -> largest difference from the network in fp32; empty where it was not checked.
    """

    target: Path
    facts: ExportedFacts
    errors: Mapping[tuple[int, int, int], float]


def export_network(
    source: str | Path | Mapping[str, Any],
    target: str | Path,
    *,
    to: str = "onnx",
    precision: str = "fp32",
    opset: int | None = None,
    check: bool = True,
    prefer_ema: bool = True,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Export:
    """Write a network for another runtime; pictures of any batch, height and width from 1 on.

    Args:
        source: a weights file; or `type` and constructor arguments, for a network of random weights.
        target: the file, with the format's own ending (ENDINGS).
        to: onnx, torch-export, torchscript or safetensors.
        precision: number format of the weights and of the computing; pictures stay fp32. safetensors: of the weights.
        opset: version of ONNX's operators; None: 18.
        check: compare the file's results with the network's before it is written.
        prefer_ema: take the running mean of the weights where there is one.
        settings: constructor arguments to use instead of what the weights' file says or its tensors tell.
        overwrite: replace a target that exists. The source is never replaced.

    Raises:
        OptionsError: an option is out of range or does not go with the format.
        WeightsError: the source cannot be read or understood, or the target exists.
        DataError: the folder of the target cannot be made or written.
        HriusrError: results differ by more than check.TOLERANCES, or a package is missing.
    """
    target = Path(target)
    _check_options(source, target, to, precision, opset)
    if not isinstance(source, Mapping) and target.resolve() == Path(source).resolve():
        raise WeightsError(f"{target} is the input itself: give another name for the output")
    if target.exists() and not overwrite:
        raise WeightsError(f"{target} exists: give --overwrite, or another name")
    check_writable(target)
    network, network_opt = _build(source, prefer_ema, settings)
    facts = _facts(network, network_opt, precision)
    if to == "safetensors":
        content = _safetensors_bytes(source, precision, prefer_ema, settings)
    else:
        served = Served(copy.deepcopy(network), DTYPES[precision])
        example = example_picture(network, facts.in_chans)
        if to == "onnx":
            content = onnx_bytes(served, example, facts, opset or SMALLEST_OPSET)
        elif to == "torch-export":
            content = torch_export_bytes(served, example, facts)
        else:
            content = torchscript_bytes(served, example, facts)
    errors = {}
    if check:
        errors = largest_errors(network, read_back(to, content, str(target)), facts.size_multiple)
        refuse_above(errors, precision, str(target))
    write_checked(target, content, start_list=False)
    return Export(target, facts, errors)


def _check_options(
    source: str | Path | Mapping[str, Any], target: Path, to: str, precision: str, opset: int | None
) -> None:
    if to not in ENDINGS:
        raise OptionsError(f"to (={to!r}) must be one of {', '.join(ENDINGS)}")
    if target.suffix != ENDINGS[to]:
        raise OptionsError(f"{target}: a file of {to} must end in {ENDINGS[to]}")
    if precision not in DTYPES:
        raise OptionsError(f"precision (={precision!r}) must be one of {', '.join(DTYPES)}")
    if to == "onnx" and precision == "bf16":
        raise OptionsError("precision (=bf16): onnxruntime has no bf16 on a CPU: take fp16 or fp32")
    if opset is not None and to != "onnx":
        raise OptionsError(f"opset (={opset}) is for onnx, not for {to}: leave it out")
    if to == "safetensors" and isinstance(source, Mapping):
        raise OptionsError("safetensors hold trained weights: name a weights file, not a size")


def _build(
    source: str | Path | Mapping[str, Any], prefer_ema: bool, settings: Mapping[str, Any] | None
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network in evaluation mode, and its complete arguments."""
    if isinstance(source, Mapping):
        network_opt = complete_network_opt({**source, **(settings or {})})
        torch.manual_seed(0)
        return build_network(network_opt).eval(), network_opt
    file = read_weights_file(source, prefer_ema)
    found = find_network(file.state, file.network_opt, settings, source=source)
    network = build_from_state(file.state, found.network_opt, source=source)
    return network.eval(), complete_network_opt(found.network_opt)


def _facts(network: nn.Module, network_opt: dict[str, Any], precision: str) -> ExportedFacts:
    try:
        upscaler = PictureUpscaler(network, device=torch.device("cpu"))
        with torch.no_grad():  # of a size that a network might refuse
            network(example_picture(network, upscaler.num_channels))
    except (RuntimeError, AssertionError, TypeError, ValueError, IndexError) as error:
        raise OptionsError(
            f"network_g.type {network_opt['type']} does not turn pictures of every size into larger ones "
            f"({error or type(error).__name__}): only networks that do can be exported"
        ) from error
    with exporting_branches():  # the graph has no branch that computes window by window
        pixel_bytes = bytes_per_pixel(network, scale=upscaler.scale, device=torch.device("cpu"))
    return ExportedFacts(
        scale=upscaler.scale,
        in_chans=upscaler.num_channels,
        size_multiple=upscaler.alignment,
        precision=precision,
        bytes_per_pixel=pixel_bytes * RUNTIME_ALLOWANCE,
        network_g=network_opt,
        version=__version__,
    )


def _safetensors_bytes(
    source: str | Path, precision: str, prefer_ema: bool, settings: Mapping[str, Any] | None
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        convert_weights(source, path, prefer_ema=prefer_ema, settings=settings, dtype=precision)
        return path.read_bytes()
