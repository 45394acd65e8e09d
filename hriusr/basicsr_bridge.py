"""The only door to BasicSR (basicsr 1.4.2, the newest release there is).

BasicSR imports `torchvision.transforms.functional_tensor`, which torchvision dropped in 0.17. The bridge supplies that
one module before it imports BasicSR, hands out the five registries, and lets our classes take over names on purpose:

    @replace_in(DATASET_REGISTRY, "PairedImageDataset")
    class PairedImageDataset(Dataset): ...

Nothing else in this package imports basicsr.
"""

import importlib
import importlib.util
import pkgutil
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

_SHIMMED_MODULE = "torchvision.transforms.functional_tensor"


def _supply_functional_tensor() -> None:
    """Put back the torchvision module that BasicSR's degradations import, where torchvision no longer has it."""
    if importlib.util.find_spec(_SHIMMED_MODULE) is not None:
        return
    from torchvision.transforms import functional

    module = types.ModuleType(_SHIMMED_MODULE)
    module.rgb_to_grayscale = functional.rgb_to_grayscale  # the one name BasicSR takes from it
    sys.modules[_SHIMMED_MODULE] = module


_supply_functional_tensor()

with warnings.catch_warnings():  # BasicSR warns of SciPy names on import; that is not our user's business
    warnings.simplefilter("ignore")
    from basicsr.metrics import calculate_metric
    from basicsr.models.sr_model import SRModel as BasicSRModel
    from basicsr.utils.registry import (
        ARCH_REGISTRY,
        DATASET_REGISTRY,
        LOSS_REGISTRY,
        METRIC_REGISTRY,
        MODEL_REGISTRY,
        Registry,
    )

# The suffix of a module's name says which registry it fills; these are all the modules register_package() imports.
_REGISTERED_SUFFIXES = {
    "hriusr.archs": "_arch",
    "hriusr.data": "_dataset",
    "hriusr.losses": "_loss",
    "hriusr.metrics": "_metric",
    "hriusr.models": "_model",
}

# (registry name, entry name) -> BasicSR's own class, kept so that tests can compare ours with it.
REPLACED: dict[tuple[str, str], Any] = {}


def replace_in(registry: Registry, name: str) -> Callable[[type], type]:
    """Register a class under a name, taking it over from BasicSR where it stands there already.

    Args:
        registry: one of the five registries.
        name: the entry's name in option files; need not be the class's own name.

    Returns:
        A class decorator that returns the class unchanged.
    """

    def decorate(cls: type) -> type:
        # BasicSR marks names that others may well register too: RealESRGANModel_basicsr
        marked = registry._obj_map.pop(f"{name}_basicsr", None)
        taken = registry._obj_map.pop(name, marked)
        if taken is not None and not taken.__module__.startswith("hriusr."):
            REPLACED[registry._name, name] = taken
        registry._obj_map[name] = cls
        return cls

    return decorate


def register_package() -> None:
    """Import every module of ours that registers something; safe to call again."""
    for package_name, suffix in _REGISTERED_SUFFIXES.items():
        package = importlib.import_module(package_name)
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.endswith(suffix):
                importlib.import_module(f"{package_name}.{module.name}")


__all__ = [
    "ARCH_REGISTRY",
    "DATASET_REGISTRY",
    "LOSS_REGISTRY",
    "METRIC_REGISTRY",
    "MODEL_REGISTRY",
    "REPLACED",
    "BasicSRModel",
    "calculate_metric",
    "register_package",
    "replace_in",
]
