"""From a network to the bytes of a file, and from such bytes back to something that runs.

Each format holds the facts of upscaling/exported_facts.py inside.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from hriusr.archs.weights import network_from_weights
from hriusr.errors import HriusrError, OptionsError
from hriusr.exporting.capture import (
    DYNAMIC_AXES,
    INPUT_NAME,
    OUTPUT_NAME,
    Served,
    capture_program,
    exporters_quiet,
    trace_script,
)
from hriusr.upscaling.exported_facts import EXTRA_FILE, PROPERTY, ExportedFacts
from hriusr.upscaling.onnx_backend import OnnxNetwork

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2", "torchscript": ".pt", "safetensors": ".safetensors"}
SMALLEST_OPSET = 18

Network = Callable[[Tensor], Tensor]


def onnx_bytes(served: Served, example: Tensor, facts: ExportedFacts, opset: int = SMALLEST_OPSET) -> bytes:
    """Return an ONNX file: input "lr", output "sr", with dynamic batch, height and width.

    Args:
        served: the network.
        example: see capture.example_picture.
        facts: stored under the metadata property "hriusr".
        opset: version of ONNX's operators.

    Raises:
        OptionsError: an opset that the exporter does not have.
        HriusrError: onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise HriusrError(f'ONNX files need {error.name}, which is missing: pip install "hriusr[onnx]"') from None
    newest = onnx.defs.onnx_opset_version()
    if not SMALLEST_OPSET <= opset <= newest:
        raise OptionsError(f"opset (={opset}) must lie between {SMALLEST_OPSET} and {newest}")
    program = capture_program(served, example)
    with exporters_quiet(), contextlib.redirect_stdout(io.StringIO()):
        converted = torch.onnx.export(
            program,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            verbose=False,
        )
    model = converted.model_proto
    made = next(entry.version for entry in model.opset_import if not entry.domain)
    if made != opset:
        raise OptionsError(f"opset (={opset}) is more than torch's exporter can make of this network: take {made}")
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in DYNAMIC_AXES.items():
            scaled = axis > 0 and value.name == OUTPUT_NAME and facts.scale > 1
            value.type.tensor_type.shape.dim[axis].dim_param = f"{facts.scale}*{name}" if scaled else name
    property_ = model.metadata_props.add()
    property_.key, property_.value = PROPERTY, facts.to_json()
    model.producer_name, model.producer_version = "hriusr", facts.version
    return model.SerializeToString()


def torch_export_bytes(served: Served, example: Tensor, facts: ExportedFacts) -> bytes:
    """Return a .pt2, as torch.export.load reads it."""
    buffer = io.BytesIO()
    with exporters_quiet():
        torch.export.save(capture_program(served, example), buffer, extra_files={EXTRA_FILE: facts.to_json()})
    return buffer.getvalue()


def torchscript_bytes(served: Served, example: Tensor, facts: ExportedFacts) -> bytes:
    """Return a TorchScript archive, as torch.jit.load and C++'s torch::jit::load read it."""
    buffer = io.BytesIO()
    with exporters_quiet():
        torch.jit.save(trace_script(served, example), buffer, _extra_files={EXTRA_FILE: facts.to_json()})
    return buffer.getvalue()


def read_back(to: str, content: bytes, source: str) -> Network:
    """Return what runs the content of a file.

    Args:
        to: a key of ENDINGS.
        content: all of the file.
        source: the file's name, for errors.
    """
    if to == "onnx":
        return OnnxNetwork(content, source, device="cpu")
    if to == "safetensors":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.safetensors"
            path.write_bytes(content)
            return _without_gradients(network_from_weights(path))
    with exporters_quiet():
        buffer = io.BytesIO(content)
        module = torch.jit.load(buffer) if to == "torchscript" else torch.export.load(buffer).module()
    return _without_gradients(module)


def _without_gradients(network: nn.Module) -> Network:
    def run(lr_BCHW: Tensor) -> Tensor:
        with torch.no_grad(), exporters_quiet():
            return network(lr_BCHW)

    return run
