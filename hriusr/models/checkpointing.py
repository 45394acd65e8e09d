"""A network between its device, its files and its processes: loading, wrapping, checkpoints, going on.

The methods are those of BasicSR's BaseModel and SRModel. What differs: files are written whole, a running mean is kept
with the weights, states hold plain types and tensors only (torch.load with weights_only), and wrappers are
torch.distributed's own.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from hriusr.archs.weights import load_weights, weights_content
from hriusr.archs.weights_fit import apply_weights
from hriusr.atomic_file import torch_bytes
from hriusr.basicsr_bridge import BasicSRModel
from hriusr.checked_file import write_checked
from hriusr.errors import OptionsError
from hriusr.models import parallel
from hriusr.models.ema import ExponentialMovingAverage, ScheduleFreeAverage
from hriusr.models.log_means import LogMeans
from hriusr.models.optimization import StepGuard, load_optimizer_states
from hriusr.models.precision import Precision
from hriusr.models.schedules import Schedule
from hriusr.models.snapshot import copy_to_cpu

logger = logging.getLogger(__name__)


class CheckpointedModel(BasicSRModel):
    """What a model has in common with its files; how it is trained is the subclass's.

    Attributes, which the subclass sets:
        net_g: the network, wrapped when distributed.
        optimizers, schedulers: lists, in step with each other; empty where nothing is trained.
        is_first: whether this is process 0, which writes.
    """

    opt: dict[str, Any]
    device: torch.device
    is_train: bool
    is_first: bool
    net_g: nn.Module
    optimizers: list[Optimizer]
    schedulers: list[Schedule]
    precision: Precision
    guard: StepGuard
    log_means: LogMeans
    _ema: ExponentialMovingAverage | ScheduleFreeAverage | None

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Wrap a network for several processes; DataParallel is not used, torchrun replaces it."""
        net = net.to(self.device)
        if self.opt.get("dist") and self.is_train:
            find_unused = self.opt.get("find_unused_parameters", False)
            return parallel.wrap(net, self.device, self.opt.get("parallel", "ddp"), find_unused)
        if self.opt.get("dist"):
            return parallel.start_alike(net)
        if isinstance(num_gpu := self.opt["num_gpu"], int) and num_gpu > 1:
            logger.warning("num_gpu: %d, but one process uses one GPU: use torchrun, --launcher pytorch", num_gpu)
        return net

    def get_bare_model(self, net: nn.Module) -> nn.Module:
        """Return the network itself, without wrapper."""
        return parallel.bare(net)

    def print_network(self, net: nn.Module) -> None:
        """Log the network's name and size."""
        net = self.get_bare_model(net)
        num_parameters = sum(parameter.numel() for parameter in net.parameters())
        logger.info("network %s: %s parameters, on %s", type(net).__name__, f"{num_parameters:,}", self.device)

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load weights from a file.

        Args:
            net: network, wrapped or not.
            load_path: .pth or .safetensors.
            strict: whether all must fit.
            param_key: params_ema prefers the running mean, params and None the trained weights; else an entry of the
                file.
        """
        key = None if param_key in (None, "params", "params_ema") else param_key
        state, network_opt = load_weights(load_path, prefer_ema=param_key == "params_ema", key=key)
        with parallel.whole_for_loading(self.get_bare_model(net)) as network:
            apply_weights(network, state, source=load_path, network_opt=network_opt, strict=strict)
        logger.info("weights of %s loaded from %s", type(self.get_bare_model(net)).__name__, load_path)

    def _load_pretrained(self, network: nn.Module, param_key: str | None) -> None:
        path_opt = self.opt["path"]
        if path_opt.get("pretrain_network_g"):
            self.load_network(network, path_opt["pretrain_network_g"], path_opt.get("strict_load_g", True), param_key)

    def _average_network(self) -> nn.Module | None:
        """Return net_g_ema, up to date; None where there is none."""
        if self._ema is None:
            return None
        self._ema.refresh()
        return self._ema.network

    def save(self, epoch: int, current_iter: int) -> None:
        """Write models/net_g_<iteration>.pth and, unless current_iter is -1, training_states/<iteration>.state.

        Raises:
            HriusrError: the disk is full; BasicSR would go on.
        """
        for path, content in self.checkpoint_files(epoch, current_iter).items():
            write_checked(path, torch_bytes(content))

    def checkpoint_files(
        self, epoch: int, current_iter: int, extra: Mapping[str, Any] | None = None
    ) -> dict[Path, dict[str, Any]]:
        """Copy what files are to hold to the CPU, so that training may go on while they are serialised and written.

        Args:
            epoch: for BasicSR.
            current_iter: steps done; -1: the weights alone, as net_g_latest.pth.
            extra: goes into the .state: tensors and plain types.

        Returns:
            Path -> tensors and plain types, in the order in which they are to be written; empty but on process 0. All
            processes call.
        """
        path_opt = self.opt["path"]
        label = "latest" if current_iter == -1 else current_iter
        files = {Path(path_opt["models"], f"net_g_{label}.pth"): self.weights_copy({"iteration": current_iter})}
        if current_iter != -1:
            state = {"epoch": epoch, "iter": current_iter, **self.training_state(), **(extra or {})}
            files[Path(path_opt["training_states"], f"{current_iter}.state")] = copy_to_cpu(state)
        return files if self.is_first else {}

    def weights_copy(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Copy the weights and their running mean to the CPU: what a .pth holds.

        Args:
            metadata: anything JSON can hold.

        Returns:
            The content; empty but on process 0. All processes call.
        """
        networks = [self.get_bare_model(self.net_g), *filter(None, [self._average_network()])]
        for network in networks:
            parallel.same_buffers(network)
        states = [parallel.full_content(network.state_dict()) for network in networks]
        ema = states[1] if len(states) > 1 else None
        return weights_content(states[0], self.opt["network_g"], metadata, ema=ema) if self.is_first else {}

    @contextlib.contextmanager
    def validating(self) -> Iterator[None]:
        """Let upscale work, for the time of a validation, on a process without the others; all processes call."""
        network = self._average_network() or self.get_bare_model(self.net_g)
        with parallel.whole_for_inference(network):
            yield

    def training_state(self) -> dict[str, Any]:
        """Return what training needs besides the weights, in BasicSR's keys: plain types, tensors on process 0."""
        self.log_means.average_over_processes()
        return {
            "optimizers": [parallel.full_content(optimizer.state_dict()) for optimizer in self.optimizers],
            "optimizer_types": [type(optimizer).__name__ for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "scaler": self.precision.state_dict(),
            "guard": self.guard.state_dict(),
            "log_means": self.log_means.state_dict(),
        }

    def resume_training(self, resume_state: Mapping[str, Any]) -> None:
        """Take over a state, ours or one that BasicSR's SRModel wrote; weights come by path.pretrain_network_g."""
        for kind, objects in (("optimizers", self.optimizers), ("schedulers", self.schedulers)):
            if len(resume_state[kind]) != len(objects):
                raise OptionsError(f"the state holds {len(resume_state[kind])} {kind}, this run has {len(objects)}")
        load_optimizer_states(self.optimizers, resume_state)
        for scheduler, state in zip(self.schedulers, resume_state["schedulers"], strict=True):
            scheduler.load_state_dict(state)
        self.precision.load_state_dict(resume_state.get("scaler", {}))
        if "guard" in resume_state:
            self.guard.load_state_dict(resume_state["guard"])
            self.log_means.load_state_dict(resume_state["log_means"])
