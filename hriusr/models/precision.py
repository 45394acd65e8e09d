"""Where a network computes and in which number format: device, autocast, loss scaling."""

from collections.abc import Mapping
from typing import Any

import torch

from hriusr.errors import OptionsError

_AUTOCAST_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(num_gpu: int | str) -> torch.device:
    """Choose the device of this process.

    Args:
        num_gpu: 0 asks for the CPU; any other number, or "auto", for the current GPU where there is one.
    """
    if num_gpu == 0 or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def named_device(name: str | torch.device | None, local_rank: int = 0) -> torch.device:
    """Choose the device that a person names.

    Args:
        name: "cpu", "cuda", "cuda:1"... None: a GPU where there is one.
        local_rank: number of this process on its machine: which GPU is taken where none is named.

    Raises:
        OptionsError: there is no such device.
    """
    if name is None:
        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return torch.device("cuda", local_rank % num_gpus) if num_gpus else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionsError(f"device (={name!r}) must be cpu, cuda or cuda:<number>") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionsError(f"device (={str(device)!r}): PyTorch sees {torch.cuda.device_count()} GPU(s): use cpu")
    return device


class Precision:
    """Autocast of forward passes, and the loss scaling that fp16 needs; weights stay in fp32."""

    def __init__(self, name: str, device: torch.device):
        """Look the format up.

        Args:
            name: fp32, bf16 or fp16.
            device: where the network computes.

        Raises:
            OptionsError: another name.
        """
        if name not in _AUTOCAST_DTYPES:
            raise OptionsError(f"precision: unknown {name!r}; one of {', '.join(_AUTOCAST_DTYPES)}")
        self.name = name
        self.device = device
        self.dtype = _AUTOCAST_DTYPES[name]
        # fp16 gradients below 6e-8 vanish; bf16 has the range of fp32 and needs no scaling
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> torch.autocast:
        """Return a fresh context for one forward pass; without effect in fp32."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def state_dict(self) -> dict[str, Any]:
        """Return the loss scale and its history; empty unless fp16."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a loss scale; a state of a run without one is ignored."""
        if self.scaler.is_enabled() and state:
            self.scaler.load_state_dict(dict(state))
