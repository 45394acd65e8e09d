"""An exported ONNX file as a network: onnxruntime computes, everything around it stays the same.

Tiles, memory plan and blending see an nn.Module without parameters whose attributes come from the file alone (see
upscaling/exported_facts.py).
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hriusr.errors import HriusrError, OptionsError, WeightsError
from hriusr.upscaling.exported_facts import PROPERTY, ExportedFacts

_OUT_OF_MEMORY_WORDS = ("Failed to allocate memory", "bad_alloc", "out of memory")


def load_onnx_network(
    path: str | Path, *, threads: int | None = None, device: torch.device | str | None = None
) -> nn.Module:
    """Load what `hriusr export --to onnx` wrote.

    Args:
        path: the .onnx file; nothing else is read.
        threads: of the CPU, for one tile; None: as many as PyTorch uses.
        device: "cpu" or "cuda"; None: CUDA where onnxruntime offers it (the package onnxruntime-gpu), else the CPU.

    Returns:
        A module (B, in_chans, H, W) -> (B, in_chans, H * upscale, W * upscale), float32, any B, H, W >= 1, with the
        attributes upscale, in_chans, size_multiple, bytes_per_pixel, network_opt, precision and fingerprint.

    Raises:
        WeightsError: missing, damaged, or not exported by us.
        OptionsError: threads below 1, or onnxruntime cannot use that device.
        HriusrError: onnxruntime is not installed.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; make it by hriusr export WEIGHTS {path}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}): check name and permissions") from None
    return OnnxNetwork(content, str(path), threads=threads, device=device)


class OnnxNetwork(nn.Module):
    """A network that onnxruntime computes.

    Args:
        content: all of the file.
        source: what errors call it.
        threads: see load_onnx_network.
        device: see load_onnx_network.
    """

    def __init__(
        self,
        content: bytes,
        source: str,
        *,
        threads: int | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        self.session = _open_session(content, source, threads, device)
        stored = self.session.get_modelmeta().custom_metadata_map
        facts = ExportedFacts.from_json(stored.get(PROPERTY), source)
        self.upscale = facts.scale
        self.in_chans = facts.in_chans
        self.size_multiple = facts.size_multiple
        self.bytes_per_pixel = facts.bytes_per_pixel
        self.network_opt = facts.network_g
        self.precision = facts.precision
        self.fingerprint = hashlib.sha256(content).hexdigest()
        self.input_name = self.session.get_inputs()[0].name

    def forward(self, lr_BCHW: Tensor) -> Tensor:
        """Enlarge pictures; the result lies where the input does.

        Raises:
            MemoryError: onnxruntime could not get the memory that it wanted.
        """
        pixels = np.ascontiguousarray(lr_BCHW.detach().to("cpu", torch.float32).numpy())
        try:
            (sr_BCHW,) = self.session.run(None, {self.input_name: pixels})
        except Exception as error:  # onnxruntime's errors have no class of their own
            if any(words in str(error) for words in _OUT_OF_MEMORY_WORDS):
                raise MemoryError(str(error).split("\n", maxsplit=1)[0]) from error
            raise
        return torch.from_numpy(sr_BCHW).to(lr_BCHW.device)


def check_precision(network: nn.Module, precision: str) -> None:
    """Refuse a precision that would have no effect: an ONNX file computes in that in which it was exported.

    Raises:
        OptionsError: the network is, or holds, an ONNX file, and precision is neither fp32 nor that of the file.
    """
    for module in network.modules():
        if isinstance(module, OnnxNetwork) and precision not in ("fp32", module.precision):
            raise OptionsError(
                f"precision (={precision}) cannot change an ONNX file, which computes in {module.precision}: leave it "
                "out, or use the torch backend"
            )


def _open_session(content: bytes, source: str, threads: int | None, device: torch.device | str | None) -> Any:
    if threads is not None and threads < 1:
        raise OptionsError(f"threads (={threads}) must be at least 1")
    try:
        import onnxruntime
    except ImportError:
        raise HriusrError('ONNX files need onnxruntime, which is missing: pip install "hriusr[onnx]"') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads() if threads is None else threads
    options.log_severity_level = 4  # errors are raised; the log would say them a second time
    try:
        return onnxruntime.InferenceSession(content, options, providers=_providers(onnxruntime, device))
    except OptionsError:
        raise
    except Exception as error:  # see OnnxNetwork.forward
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise WeightsError(f"{source}: onnxruntime cannot load it ({reason}): export it anew") from None


def _providers(onnxruntime: Any, device: torch.device | str | None) -> list[Any]:
    """Say what is to compute, in the order in which onnxruntime tries."""
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    device = torch.device(("cuda" if has_cuda else "cpu") if device is None else device)
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if device.type != "cuda" or not has_cuda:
        remedy = 'pip install "onnxruntime-gpu", or use the CPU'
        raise OptionsError(f"device (={str(device)!r}): this onnxruntime computes on the CPU only: {remedy}")
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]
