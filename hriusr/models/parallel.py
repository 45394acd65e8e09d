"""One network on several processes: DistributedDataParallel, or FSDP2 (fully_shard; arXiv:2304.11277).

The rest of the code sees a network, tensors and numbers. With FSDP2 each process holds a part of each parameter, a
DTensor; what is saved is always whole, so that files do not tell how a run was wrapped, nor on how many processes.
Functions marked "collective" are to be called by all processes at once.
"""

import contextlib
import copy
import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from hriusr.errors import OptionsError
from hriusr.models.snapshot import copy_to_cpu

try:
    from torch.distributed.fsdp import FSDPModule, fully_shard
    from torch.distributed.tensor import DTensor, distribute_tensor
except ImportError:  # torch before 2.6: nothing is ever sharded
    fully_shard, FSDPModule, DTensor = None, (), ()

_WHOLE = "whole_network"  # attribute of a sharded network, see shard


def num_processes() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def wrap(network: nn.Module, device: torch.device, parallel: str = "ddp", find_unused: bool = False) -> nn.Module:
    """Let a network be trained by all processes; they start from the weights of process 0. Collective.

    Args:
        network: on its device.
        device: of this process.
        parallel: ddp (every process holds all parameters) or fsdp (a part of each).
        find_unused: DDP looks for parameters that a step did not use.

    Raises:
        OptionsError: torch has no FSDP2.
    """
    start_alike(network)
    if parallel == "fsdp":
        return shard(network)
    # constants mostly, which DDP would send at every step; for those that change see same_buffers
    is_new = (
        "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    )  # the name since torch 2.15
    return DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=find_unused,
        gradient_as_bucket_view=True,
        **{"forward_sync_buffers" if is_new else "broadcast_buffers": False},
    )


def shard(network: nn.Module) -> nn.Module:
    """Shard a network in place with FSDP2, a unit a block, so that only one block is whole at a time.

    A block is a composite element of a ModuleList or Sequential. A whole copy stays on the CPU, for inference.

    Raises:
        OptionsError: torch has no FSDP2.
    """
    if fully_shard is None:
        raise OptionsError(f"parallel: fsdp needs torch 2.6 or newer, this is {torch.__version__}; use parallel: ddp")
    whole = copy.deepcopy(network).cpu()
    for block in reversed(_blocks(network)):  # the innermost first: a parameter belongs to its nearest unit
        fully_shard(block)
    fully_shard(network)
    setattr(network, _WHOLE, (whole,))  # in a tuple, so that it is no submodule
    return network


def bare(network: nn.Module) -> nn.Module:
    """Return the network itself, without DDP around it; FSDP2 changes a network in place."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def is_sharded(network: nn.Module) -> bool:
    """Tell whether each process holds a part of the parameters only."""
    return isinstance(network, FSDPModule)


@contextlib.contextmanager
def gradient_sync(network: nn.Module, is_last: bool) -> Iterator[None]:
    """Let processes exchange gradients with the last part of a step only; with FSDP2 with each, which saves memory."""
    with warnings.catch_warnings():
        # networks return a view cropped to its size, which nobody changes in place
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        # of kernels with one channel a group, whose strides mean the same
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        if is_last or not isinstance(network, DistributedDataParallel):
            yield
        else:
            with network.no_sync():
                yield


def copy_network(network: nn.Module) -> nn.Module:
    """Copy a network as it is, sharded like it."""
    if not is_sharded(network):
        return copy.deepcopy(network)
    sharded = shard(copy.deepcopy(getattr(network, _WHOLE)[0]).to(next(network.parameters()).device))
    with torch.no_grad():
        for target, source in zip(_tensors(sharded), _tensors(network), strict=True):
            local(target).copy_(local(source))
    return sharded


def inference_copy(network: nn.Module) -> nn.Module:
    """Return what a process can run without the others: the network, or a sharded one's whole copy as it last was."""
    return getattr(network, _WHOLE)[0] if is_sharded(network) else network


@contextlib.contextmanager
def whole_for_inference(network: nn.Module) -> Iterator[None]:
    """Let inference_copy be up to date, and on the network's device, for the time of a validation. Collective."""
    same_buffers(network)
    if not is_sharded(network):
        yield
        return
    whole = inference_copy(network).to(next(network.parameters()).device)
    with torch.no_grad():
        for target, source in zip(_tensors(whole), _tensors(network), strict=True):
            target.copy_(full_tensor(source))
    try:
        yield
    finally:
        whole.cpu()


@contextlib.contextmanager
def whole_for_loading(network: nn.Module) -> Iterator[nn.Module]:
    """Yield a network that whole tensors can be loaded into: itself, or a sharded one's whole copy. Collective."""
    if not is_sharded(network):
        yield network
        return
    with whole_for_inference(network):
        whole = inference_copy(network)
        yield whole
        with torch.no_grad():
            for target, source in zip(_tensors(network), _tensors(whole), strict=True):
                target.copy_(shard_like(source, target))


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds; shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor with the parts of all processes. Collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def full_content(content: Any) -> Any:
    """Make every sharded tensor of nested mappings, lists and tuples whole, on the CPU of process 0. Collective."""
    if isinstance(content, DTensor):
        whole = content.full_tensor()
        return whole.cpu() if dist.get_rank() == 0 else whole.new_empty(0)
    if isinstance(content, Mapping):
        return {key: full_content(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(full_content(value) for value in content)
    return content


def shard_like(value: Any, parameter: Tensor) -> Any:
    """Shard a whole tensor as a parameter of its shape is; anything else is returned as it is."""
    if not (isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape):
        return value
    value = value.detach().to(parameter.device)
    # every process has the whole value: none has to be sent
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def shard_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """Shard the whole tensors of an optimiser's state_dict as its parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    by_number = dict(zip(numbers, parameters, strict=False))
    sharded = {
        number: {key: shard_like(value, by_number.get(number)) for key, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": sharded}


def is_any_sharded(tensors: Iterable[Tensor]) -> bool:
    """Tell whether this process holds only a part of any of the tensors."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def sum_over_processes(value: Tensor) -> Tensor:
    """Add up a tensor over all processes, in place. Collective."""
    dist.all_reduce(value)
    return value


def mean_over_processes(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Average scalars by name. Collective, with the same names everywhere.

    Args:
        values: scalars on one device.
    """
    if not values or num_processes() == 1:
        return dict(values)
    names = sorted(values)
    stacked = torch.stack([values[name] for name in names])
    dist.all_reduce(stacked)
    return dict(zip(names, (stacked / num_processes()).unbind(), strict=True))


def start_alike(network: nn.Module) -> nn.Module:
    """Give every process the network of process 0, which is returned. Collective."""
    copy_from_first(_tensors(network))
    return network


def same_buffers(network: nn.Module) -> None:
    """Give every process the saved buffers of process 0 (BatchNorm's statistics differ). Collective."""
    saved = set(network.state_dict())
    copy_from_first([value for name, value in network.named_buffers() if name in saved])


@torch.no_grad()
def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Give every process the tensors of process 0. Collective."""
    if num_processes() > 1:
        for tensor in tensors:
            contiguous = tensor.detach().contiguous()
            dist.broadcast(contiguous, 0)
            tensor.copy_(contiguous)


def gather_on_first(value: Any) -> list[Any]:
    """Collect tensors and plain types of all processes, in their order, on process 0; [] elsewhere. Collective."""
    if num_processes() == 1:
        return [value]
    values = [None] * num_processes() if dist.get_rank() == 0 else None
    dist.gather_object(copy_to_cpu(value), values)
    return values or []


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _blocks(network: nn.Module) -> list[nn.Module]:
    containers = (nn.ModuleList, nn.Sequential)
    elements = [element for part in network.modules() if isinstance(part, containers) for element in part]
    blocks = [
        element
        for element in elements
        if not isinstance(element, containers)
        and next(element.children(), None) is not None
        and next(element.parameters(), None) is not None
    ]
    return list(dict.fromkeys(blocks))
