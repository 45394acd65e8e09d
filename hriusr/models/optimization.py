"""Optimisers by name, and steps that survive a gradient that is not finite, without waiting for the device."""

import importlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer, RMSprop

from hriusr.errors import OptionsError
from hriusr.models.muon import MuonWithAdamW, split_matrices
from hriusr.models.parallel import is_any_sharded, local, shard_optimizer_state, sum_over_processes
from hriusr.models.parameter_groups import is_kernel, parameter_groups
from hriusr.models.spike_detector import SpikeDetector

logger = logging.getLogger(__name__)

# BasicSR's seven, and NAdam and RAdam
_OF_TORCH = ("Adam", "AdamW", "Adamax", "SGD", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop")
# name -> module that has it, package to install
_OF_PACKAGES = {
    "Adan": ("timm.optim", "timm"),
    "Lion": ("timm.optim", "timm"),
    "AdamWScheduleFree": ("schedulefree", "schedulefree"),
}
# a change needs buffers that the state lacks
_WITH_BUFFERS = ("amsgrad", "centered")
# what else of a group the options decide on; lr is the schedule's, and counters such as k belong to the state
_HYPERPARAMETERS = (
    *("betas", "eps", "weight_decay", "momentum", "nesterov", "dampening", "alpha", "momentum_decay"),
    *("decoupled_weight_decay", "no_prox", "ns_steps"),
)
# those of our own in optim_g, which no constructor takes
_GROUP_KEYS = ("no_decay_norm_bias", "lr_mult")


def optimizer_class(type_name: str | None, place: str = "train.optim_g") -> type[Optimizer]:
    """Look an optimiser up.

    Args:
        type_name: as options name it.
        place: key of the options, for messages.

    Raises:
        OptionsError: unknown, or its package is not installed.
    """
    if type_name == "Muon":
        return MuonWithAdamW
    if type_name in _OF_TORCH:
        return getattr(torch.optim, type_name)
    if type_name not in _OF_PACKAGES:
        known = ", ".join((*_OF_TORCH, *_OF_PACKAGES, "Muon"))
        raise OptionsError(f"{place}.type: unknown {type_name!r}; one of {known}")
    module_name, package = _OF_PACKAGES[type_name]
    try:
        return getattr(importlib.import_module(module_name), type_name)
    except (ImportError, AttributeError) as error:
        raise OptionsError(
            f"{place}.type: {type_name} comes from the package {package}, which is missing or too old ({error}): "
            f"pip install -U {package}"
        ) from error


def build_optimizer(
    trained: nn.Module | Iterable[nn.Parameter], optimizer_opt: Mapping[str, Any], place: str = "train.optim_g"
) -> Optimizer:
    """Build an optimiser; Adam's fused kernel is used unless the options say `fused` or `foreach` themselves.

    Args:
        trained: a bare network, of which what requires a gradient is trained; or parameters, which have no names to
            sort them by. On their device already.
        optimizer_opt: `type`, arguments of the optimiser's class, no_decay_norm_bias and lr_mult; not changed.
        place: key of the options, for messages.

    Raises:
        OptionsError: unknown type or argument, or a package that is missing.
    """
    arguments = {key: value for key, value in optimizer_opt.items() if key not in ("type", *_GROUP_KEYS)}
    type_name = optimizer_opt.get("type")
    chosen_class = optimizer_class(type_name, place)
    names: dict[int, str] = {}
    if isinstance(trained, nn.Module):
        frozen = [name for name, parameter in trained.named_parameters() if not parameter.requires_grad]
        if frozen:
            logger.warning("not trained (requires_grad is off): %s", ", ".join(frozen))
        group_options = {key: optimizer_opt[key] for key in _GROUP_KEYS if key in optimizer_opt}
        groups = parameter_groups(trained, **group_options, place=place)
        names = {id(parameter): name for name, parameter in trained.named_parameters()}
    else:
        groups = [{"params": list(trained)}]
    parameters = [parameter for group in groups for parameter in group["params"]]
    if chosen_class is MuonWithAdamW:
        groups = split_matrices(groups, lambda p: is_kernel(names.get(id(p), "weight"), p) and p.shape[1] > 1)
    if "betas" in arguments:
        arguments["betas"] = tuple(arguments["betas"])
    can_be_fused = chosen_class in (Adam, AdamW, MuonWithAdamW)
    if can_be_fused and "fused" not in arguments and "foreach" not in arguments:
        arguments["fused"] = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    try:
        optimizer = chosen_class(groups, **arguments)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:  # the last: fused and foreach together
        raise OptionsError(f"{place} ({type_name}): {error}") from error
    if is_schedule_free(optimizer):
        optimizer.train()  # once: the weights stay in this mode, see ScheduleFreeAverage
    return optimizer


def is_schedule_free(optimizer: Optimizer) -> bool:
    """Tell whether an optimiser averages its weights by itself, as the package schedulefree does."""
    return "weight_lr_power" in optimizer.defaults


def load_optimizer_states(optimizers: Sequence[Optimizer], resume_state: Mapping[str, Any]) -> None:
    """Take over the states of all optimisers.

    Args:
        optimizers: as they were when the state was saved.
        resume_state: `optimizers`: state_dicts, and `optimizer_types`, which BasicSR does not write.

    Raises:
        OptionsError: they are not those of the state.
    """
    types = [type(optimizer).__name__ for optimizer in optimizers]
    saved_types = resume_state.get("optimizer_types", types)
    if saved_types != types:
        raise OptionsError(
            f"train.optim_g.type: the state is that of {', '.join(saved_types)}, this run has {', '.join(types)}; "
            "go on with the same, or start anew from its weights (path.pretrain_network_g)"
        )
    for optimizer, state in zip(optimizers, resume_state["optimizers"], strict=True):
        load_optimizer_state(optimizer, shard_optimizer_state(optimizer, state))


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Take over an optimiser's state but not its kernels: it may come from another device or from BasicSR.

    Hyperparameters such as weight_decay stay those of this run's options.

    Args:
        optimizer: of the same parameters.
        state: its state_dict.

    Raises:
        OptionsError: the state is that of other parameter groups.
    """
    own_keys = ("fused", "foreach", "capturable", "lr_mult", "is_matrix", *_HYPERPARAMETERS)
    own_groups = [{key: group[key] for key in own_keys if key in group} for group in optimizer.param_groups]
    sizes, own_sizes = (
        [len(group["params"]) for group in groups] for groups in (state["param_groups"], optimizer.param_groups)
    )
    if sizes != own_sizes:
        raise OptionsError(
            f"the optimiser's saved state has groups of {sizes} parameters, this run's has {own_sizes}: resume with "
            "the same train.optim_g (no_decay_norm_bias, lr_mult), or start anew from the weights "
            "(path.pretrain_network_g)"
        )
    for saved, own, group in zip(state["param_groups"], own_groups, optimizer.param_groups, strict=True):
        kept = [key for key in _WITH_BUFFERS if key in saved and saved[key] != group.get(key)]
        if isinstance(optimizer, RMSprop) and bool(saved.get("momentum")) != bool(own["momentum"]):
            own["momentum"] = saved["momentum"]
            kept.append("momentum")
        for key in kept:
            logger.warning("train.optim_g.%s stays %s, as the state has it; start anew to change it", key, saved[key])
    groups = [{**group, **own} for group, own in zip(state["param_groups"], own_groups, strict=True)]
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
    """Takes an optimiser's step unless its gradient is not finite or a spike, and counts those left out.

    The counters live on the device, so that nothing waits for it until they are read. Only Adam's and AdamW's fused
    kernels can leave a step out by themselves: that of SGD then starts its momentum from uninitialised memory (torch
    2.15), and the others have none; those wait.
    """

    def __init__(self, device: torch.device, spike_factor: float | None = None):
        """Start counting.

        Args:
            device: of the parameters.
            spike_factor: see SpikeDetector; None: no gradient is too large.
        """
        self.consecutive = torch.zeros((), dtype=torch.int64, device=device)
        self.total = torch.zeros((), dtype=torch.int64, device=device)
        self.spikes = SpikeDetector(spike_factor, device) if spike_factor else None

    def step(self, optimizer: Optimizer, scaler: torch.amp.GradScaler, norm: Tensor) -> Tensor:
        """Step if the gradient is finite and no spike.

        Args:
            optimizer: with gradients, unscaled already.
            scaler: enabled or not; updated.
            norm: of the gradient before clipping, a scalar.

        Returns:
            Whether the step was taken: a boolean scalar on the device.
        """
        is_bad = ~torch.isfinite(norm)
        is_left_out = is_bad | self.spikes.is_spike(norm) if self.spikes else is_bad
        decides_itself = isinstance(optimizer, (Adam, AdamW)) and bool(optimizer.defaults.get("fused"))
        if decides_itself and not scaler.is_enabled():
            optimizer.grad_scale, optimizer.found_inf = None, is_left_out.float()  # the kernel looks at it
            optimizer.step()
            del optimizer.grad_scale, optimizer.found_inf
        elif (decides_itself and not self.spikes) or not bool(is_left_out):
            scaler.step(optimizer)  # where it is enabled it saw the same gradients
        scaler.update()
        self.total += is_bad
        self.consecutive = (self.consecutive + 1) * is_bad
        return ~is_left_out

    def state_dict(self) -> dict[str, Any]:
        """Return the counters as numbers; waits for the device."""
        state: dict[str, Any] = {"consecutive": int(self.consecutive), "total": int(self.total)}
        if self.spikes:
            state["spikes"] = self.spikes.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over counters."""
        self.consecutive.fill_(state["consecutive"])
        self.total.fill_(state["total"])
        if self.spikes and "spikes" in state:
            self.spikes.load_state_dict(state["spikes"])
