"""Gradients of something in a network's output with regard to its input, in full precision."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from hriusr.errors import HriusrError
from hriusr.upscaling.tile_runner import evaluating, is_out_of_memory


@contextlib.contextmanager
def explained(network: nn.Module) -> Iterator[None]:
    """Prepare a network for gradients of its input: evaluation mode, constant weights, no TF32; undone at the end."""
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)  # what only their gradients need is not kept
    try:
        with evaluating(network), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def network_input(network: nn.Module, image_HWC: object) -> Tensor:
    """Turn a picture (H, W, C), array of floats in 0..1, into (1, C, H, W) of the network's type, on its device."""
    weight = next(network.parameters(), torch.empty(0))
    lr_HWC = torch.as_tensor(image_HWC).to(weight.device, weight.dtype)
    return lr_HWC.permute(2, 0, 1)[None].contiguous()


def input_gradient(
    network: nn.Module, lr_1CHW: Tensor, objective: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate a number computed from a network's output.

    Args:
        network: within `explained`.
        lr_1CHW: the network's input.
        objective: maps the output to a number.

    Returns:
        (gradient (1, C, H, W), the number, the output), all without history.

    Raises:
        HriusrError: memory ran out, or a value is not finite.
    """
    lr_1CHW = lr_1CHW.detach().requires_grad_()
    try:
        with torch.enable_grad():
            sr_1CHW = network(lr_1CHW)
            value = objective(sr_1CHW)
            (gradient_1CHW,) = torch.autograd.grad(value, lr_1CHW)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        height, width = lr_1CHW.shape[-2:]
        raise HriusrError(
            f"out of memory with {width}x{height} low-resolution pixels at once: take a smaller crop, or "
            "--set use_checkpoint=true"
        ) from error
    if not torch.isfinite(gradient_1CHW).all():
        raise HriusrError("the network's gradient is NaN or infinite: its weights are broken: use other weights")
    return gradient_1CHW, value.detach(), sr_1CHW.detach()
