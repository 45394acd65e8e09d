"""What degradations are drawn from: Real-ESRGAN's and Real-HAT's option keys, with their published values.

BasicSR reads the blur from the dataset's options and all else from the top level of the option file; so do we.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

Range = tuple[float, float]

KERNEL_KINDS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
RESIZE_MODES = ("area", "bilinear", "bicubic")


@dataclass(frozen=True)
class BlurSettings:
    """One blur.

    Attributes:
        blur_kernel_size: largest side of a kernel, odd; sides are drawn from the odd numbers from 7 on.
        kernel_list: kinds, some of KERNEL_KINDS.
        kernel_prob: how often each of them, in proportion.
        sinc_prob: probability of a sinc kernel instead.
        blur_sigma: standard deviations, pixels.
        betag_range: shapes of generalised Gaussians.
        betap_range: shapes of plateaus.
    """

    blur_kernel_size: int = 21
    kernel_list: tuple[str, ...] = KERNEL_KINDS
    kernel_prob: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc_prob: float = 0.1
    blur_sigma: Range = (0.2, 3.0)
    betag_range: Range = (0.5, 4.0)
    betap_range: Range = (1.0, 2.0)

    @property
    def kernel_size(self) -> int:
        """Side of the arrays that hold kernels."""
        return self.blur_kernel_size


@dataclass(frozen=True)
class KernelSettings:
    """Both blurs and the last sinc filter, from a dataset's options."""

    first: BlurSettings = BlurSettings()
    second: BlurSettings = BlurSettings(blur_sigma=(0.2, 1.5))
    final_sinc_prob: float = 0.8

    @classmethod
    def from_options(cls, dataset_opt: Mapping[str, Any]) -> "KernelSettings":
        """Read a dataset's options; what is absent has Real-ESRGAN's value."""
        second_keys = {
            "blur_kernel_size": "blur_kernel_size2",
            "kernel_list": "kernel_list2",
            "kernel_prob": "kernel_prob2",
            "sinc_prob": "sinc_prob2",
            "blur_sigma": "blur_sigma2",
            "betag_range": "betag_range2",
            "betap_range": "betap_range2",
        }
        return cls(
            _override(cls.first, dataset_opt, {name: name for name in second_keys}),
            _override(cls.second, dataset_opt, second_keys),
            _present(dataset_opt, "final_sinc_prob", cls.final_sinc_prob),
        )


@dataclass(frozen=True)
class StageSettings:
    """Resize, noise and JPEG of one round.

    Attributes:
        blur_prob: how often there is a blur.
        resize_prob: how often larger, smaller and unchanged, in proportion.
        resize_range: smallest and largest factor; of the second round relative to the size of the final picture.
        gaussian_noise_prob: probability of Gaussian noise; else it is Poisson noise.
        noise_range: standard deviation of Gaussian noise, of 255.
        poisson_scale_range: factor of Poisson noise.
        gray_noise_prob: probability that all channels have the same noise.
        jpeg_range: JPEG quality, 1..100.
    """

    blur_prob: float = 1.0
    resize_prob: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: Range = (0.15, 1.5)
    gaussian_noise_prob: float = 0.5
    noise_range: Range = (1.0, 30.0)
    poisson_scale_range: Range = (0.05, 3.0)
    gray_noise_prob: float = 0.4
    jpeg_range: Range = (30.0, 95.0)


@dataclass(frozen=True)
class StagesSettings:
    """Both rounds, from the top level of an option file."""

    first: StageSettings = StageSettings()
    second: StageSettings = StageSettings(
        blur_prob=0.8,
        resize_prob=(0.3, 0.4, 0.3),
        resize_range=(0.3, 1.2),
        noise_range=(1.0, 25.0),
        poisson_scale_range=(0.05, 2.5),
    )

    @classmethod
    def from_options(cls, opt: Mapping[str, Any]) -> "StagesSettings":
        """Read the top level of the options; what is absent has Real-ESRGAN's value."""
        second_keys = {
            "blur_prob": "second_blur_prob",
            "resize_prob": "resize_prob2",
            "resize_range": "resize_range2",
            "gaussian_noise_prob": "gaussian_noise_prob2",
            "noise_range": "noise_range2",
            "poisson_scale_range": "poisson_scale_range2",
            "gray_noise_prob": "gray_noise_prob2",
            "jpeg_range": "jpeg_range2",
        }
        first_keys = {field.name: field.name for field in fields(StageSettings) if field.name != "blur_prob"}
        return cls(_override(cls.first, opt, first_keys), _override(cls.second, opt, second_keys))


def _override(defaults: Any, opt: Mapping[str, Any], keys: Mapping[str, str]) -> Any:
    """Replace fields of a dataclass by options: field -> key."""
    values = {field.name: getattr(defaults, field.name) for field in fields(defaults)}
    for name, key in keys.items():
        value = _present(opt, key, values[name])
        values[name] = tuple(value) if isinstance(value, list) else value
    return type(defaults)(**values)


def _present(opt: Mapping[str, Any], key: str, default: Any) -> Any:
    return default if opt.get(key) is None else opt[key]
