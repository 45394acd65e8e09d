"""How far a network sees: measured by gradients, and stored, since it takes seconds to minutes.

The gradient of one window's output with respect to the input is nonzero just where the input can make a difference.
Measured on a picture one window high (or wide), which sees as far along itself as a large picture does. Global pools
are held (pooled_statistics.py): what they look at is another matter.
"""

import copy
import hashlib
import json
import logging
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from hriusr.archs.registry import build_network
from hriusr.atomic_file import write_atomically
from hriusr.errors import HriusrError
from hriusr.upscaling.ensembles import NetworkEnsemble, SelfEnsemble
from hriusr.upscaling.pooled_statistics import global_pools
from hriusr.upscaling.tile_plan import network_alignment

logger = logging.getLogger(__name__)

LARGEST = 2048  # pixels of the strip; whoever sees to its ends sees the whole picture
_GRADIENT = 1e12  # of the output, so that what arrives through many layers does not vanish in float32


def receptive_reach(network: nn.Module, *, scale: int) -> int:
    """Return how far around itself a network looks: from the stored measurements, else measured and stored.

    Args:
        network: maps (B, C, H, W) to (B, C, H * scale, W * scale).
        scale: enlargement.

    Returns:
        Low-resolution pixels, in the worst direction and position.

    Raises:
        HriusrError: it looks at the whole picture.
    """
    network = _in_torch(network)
    path, key = cache_folder() / "receptive_fields.json", _structure(network)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if key not in known:
        logger.info("measuring how far the network sees (once a network)")
        known[key] = measure_reach(network, scale=scale)
        try:
            write_atomically(path, json.dumps(known, indent=1).encode())
        except HriusrError as error:
            logger.info("not stored: %s", error)
    if known[key] is None:
        raise HriusrError(
            f"the network ({type(network).__name__}) looks at more than {LARGEST // 2} pixels in one direction, "
            "perhaps at the whole picture: tiles cannot be exact; leave exact out, or use tile_size 0"
        )
    return known[key]


def _in_torch(network: nn.Module) -> nn.Module:
    """Return the network with each ONNX file in it replaced by what it was made from; weights do not matter here."""
    if isinstance(network, SelfEnsemble):
        return SelfEnsemble(_in_torch(network.network))
    if isinstance(network, NetworkEnsemble):
        return NetworkEnsemble([_in_torch(member) for member in network.networks])
    if next(network.parameters(), None) is None and getattr(network, "network_opt", None):
        return build_network(network.network_opt)
    return network


def cache_folder() -> Path:
    """Return where measurements are kept between runs: HRIUSR_CACHE, else XDG's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HRIUSR_CACHE") or Path(base) / "hriusr")


def measure_reach(network: nn.Module, *, scale: int) -> int | None:
    """Measure receptive_reach; None: farther than LARGEST / 2."""
    network = _prepared(network)
    alignment = network_alignment(network)
    length = min(max(8 * alignment, 128), LARGEST) // alignment * alignment
    farthest = 0
    for is_column in (True, False):
        while True:
            reach = _reach(network, scale, alignment, length, is_column)
            if reach is not None:
                break
            if length >= LARGEST:
                return None
            length *= 2
        farthest = max(farthest, reach)
    return farthest


def _reach(network: nn.Module, scale: int, alignment: int, length: int, is_column: bool) -> int | None:
    """Return the reach along one axis, or None where the strip is too short to tell."""
    generator = torch.Generator().manual_seed(0)
    shape = (alignment, length) if is_column else (length, alignment)
    lr_BCHW = torch.rand(1, getattr(network, "in_chans", 3), *shape, generator=generator)
    lr_BCHW.requires_grad_()
    # one window in the middle, of each phase in which windows of several sizes may lie
    start = length // 2 // alignment * alignment
    sr_BCHW = network(lr_BCHW)
    part = sr_BCHW.narrow(-1 if is_column else -2, start * scale, alignment * scale)
    weights = torch.randn(part.shape, generator=generator) * _GRADIENT
    (gradient_BCHW,) = torch.autograd.grad((part * weights).sum(), lr_BCHW)
    used = (gradient_BCHW != 0).flatten(0, 1).any(0).any(0 if is_column else 1).nonzero().flatten()
    first, last = used[0].item(), used[-1].item()
    if first == 0 or last == length - 1:
        return None
    # from the far side of the window: a tile may be cut anywhere in it
    return max(start + alignment - 1 - first, last - start)


def _prepared(network: nn.Module) -> nn.Module:
    """Return a copy that needs little memory, with constant pools and no parameter at zero (some start there)."""
    network = copy.deepcopy(getattr(network, "_orig_mod", network)).float().cpu().eval()
    for module in network.modules():
        if hasattr(module, "use_checkpoint"):
            module.use_checkpoint = True
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
        parameter.requires_grad_(False)
    for pool in global_pools(network):
        pool.register_forward_hook(_constant)
    return network


def _constant(_module: nn.Module, _inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
    return torch.full_like(result, 0.5, requires_grad=False)


def _structure(network: nn.Module) -> str:
    """Return a key that networks of one structure share, whatever their weights."""
    text = repr(network) + "".join(f"{name}{tuple(value.shape)}" for name, value in network.named_parameters())
    numbers = [
        (name, sorted((key, value) for key, value in vars(module).items() if _is_number(value)))
        for name, module in network.named_modules()
    ]
    return f"{type(network).__name__} {hashlib.sha256((text + repr(numbers)).encode()).hexdigest()[:16]}"


def _is_number(value: object) -> bool:
    """Whether an attribute belongs to the structure: window, shift, kernel; not the mode."""
    if isinstance(value, (tuple, list)):
        return all(_is_number(item) for item in value)
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)
