"""hriusr: super-resolution with hyperbolic relative imprinting units, on BasicSR's option files."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import torch

    from hriusr.upscaling.library import Upscaler

__version__ = "0.1.0"


def load(
    weights: "str | os.PathLike[str]",
    *,
    device: "str | torch.device | None" = None,
    settings: "Mapping[str, Any] | None" = None,
) -> "Upscaler":
    """Load a network: `hriusr.load("weights.safetensors").upscale(image)`.

    Args:
        weights: the name of weights that come with hriusr, or a file: .pth or .safetensors of ours, or published ones
            of SwinIR, HAT, Swin2SR, Real-ESRGAN x4; or .onnx from `hriusr export`.
        device: "cpu", "cuda", "cuda:1" ...; None: the GPU where there is one.
        settings: constructor arguments, where the file is wrong or silent.

    Raises:
        hriusr.errors.WeightsError: missing, damaged, or of an unknown network.
        hriusr.errors.OptionsError: no such device, or settings for an .onnx file.
    """
    from hriusr.upscaling.library import Upscaler  # PyTorch is imported here, not with hriusr

    return Upscaler.load(weights, device=device, settings=settings)
