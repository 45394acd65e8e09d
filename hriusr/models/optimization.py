"""Optimisers by name, and steps that survive a gradient that is not finite, without waiting for the device."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hriusr.errors import OptionsError
from hriusr.models.parallel import is_any_sharded, local, sum_over_processes

logger = logging.getLogger(__name__)

_OPTIMIZERS = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


def build_optimizer(parameters: Iterable[nn.Parameter], optimizer_opt: Mapping[str, Any]) -> Optimizer:
    """Build an optimiser; the fused kernel is used unless the options say `fused` or `foreach` themselves.

    Args:
        parameters: those to train, on their device already.
        optimizer_opt: `type` and arguments of torch.optim's class; not changed.

    Raises:
        OptionsError: unknown type or argument.
    """
    arguments = dict(optimizer_opt)
    type_name = arguments.pop("type", None)
    if type_name not in _OPTIMIZERS:
        raise OptionsError(f"train.optim_g.type: unknown {type_name!r}; one of {', '.join(_OPTIMIZERS)}")
    if "betas" in arguments:
        arguments["betas"] = tuple(arguments["betas"])
    parameters = list(parameters)
    if "fused" not in arguments and "foreach" not in arguments:
        arguments["fused"] = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    try:
        return _OPTIMIZERS[type_name](parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise OptionsError(f"train.optim_g ({type_name}): {error}") from error


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Take over an optimiser's state but not its kernels: it may come from another device or from BasicSR.

    Args:
        optimizer: of the same parameters.
        state: its state_dict.
    """
    kernels = {key: optimizer.defaults[key] for key in ("fused", "foreach", "capturable") if key in optimizer.defaults}
    groups = [{**group, **kernels} for group in state["param_groups"]]
    optimizer.load_state_dict({"state": state["state"], "param_groups": groups})


def gradient_norm(gradients: list[Tensor]) -> Tensor:
    """Return the Euclidean norm of all gradients together, a scalar; not finite if any element is not."""
    norms = torch.stack(torch._foreach_norm([local(gradient) for gradient in gradients]))
    if not is_any_sharded(gradients):
        return torch.linalg.vector_norm(norms)
    return sum_over_processes(norms.double().square().sum()).sqrt().to(norms.dtype)  # double: squares overflow in fp32


def clip_gradients(gradients: list[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale gradients down, in place, so that their norm is at most max_norm.

    Args:
        gradients: on one device.
        norm: their norm, from gradient_norm.
        max_norm: positive.
    """
    torch._foreach_mul_([local(gradient) for gradient in gradients], torch.clamp(max_norm / (norm + 1e-6), max=1.0))


class StepGuard:
    """Takes an optimiser's step unless the gradient is not finite, and counts those left out.

    The counters live on the device, so that nothing waits for it until they are read.
    """

    def __init__(self, device: torch.device):
        self.consecutive = torch.zeros((), dtype=torch.int64, device=device)
        self.total = torch.zeros((), dtype=torch.int64, device=device)

    def step(self, optimizer: Optimizer, scaler: torch.amp.GradScaler, norm: Tensor) -> Tensor:
        """Step if the gradient is finite.

        Args:
            optimizer: with gradients, unscaled already.
            scaler: enabled or not; updated.
            norm: of the gradient, a scalar.

        Returns:
            Whether the gradient was finite: a boolean scalar on the device.
        """
        is_bad = ~torch.isfinite(norm)
        if scaler.is_enabled():
            scaler.step(optimizer)  # leaves the step out by itself: it saw the same gradients
            scaler.update()
        elif optimizer.defaults.get("fused"):
            optimizer.grad_scale, optimizer.found_inf = None, is_bad.float()  # the fused kernel looks at it
            optimizer.step()
            del optimizer.grad_scale, optimizer.found_inf
        elif not bool(is_bad):
            optimizer.step()
        self.total += is_bad
        self.consecutive = (self.consecutive + 1) * is_bad
        return ~is_bad

    def state_dict(self) -> dict[str, int]:
        """Return the counters as numbers; waits for the device."""
        return {"consecutive": int(self.consecutive), "total": int(self.total)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Take over counters."""
        self.consecutive.fill_(state["consecutive"])
        self.total.fill_(state["total"])
