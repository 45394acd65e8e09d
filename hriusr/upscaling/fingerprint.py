"""What tells networks apart that give different pixels: their weights, and all that their constructors were told."""

import hashlib

import torch
from torch import Tensor, nn


def network_fingerprint(network: nn.Module) -> str:
    """Return a digest of a network's weights, buffers and plain attributes, module by module.

    Networks of equal weights may still differ: img_range or res_scale are attributes, means often buffers that are not
    stored. Taken before the network first runs, since some modules keep what depends on the last picture.
    """
    digest = hashlib.sha256()
    for name, module in network.named_modules():
        plain = sorted((key, value) for key, value in vars(module).items() if key != "training" and _is_plain(value))
        digest.update(repr((name, type(module).__name__, plain)).encode())
        for tensors in (module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
            for key, value in tensors:
                digest.update(key.encode())
                digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Tensor) -> memoryview:
    return memoryview(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))
