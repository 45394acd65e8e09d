"""Datasets and models by name, from options in BasicSR's form."""

import copy
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml
from torch.utils.data import Dataset

from hriusr.basicsr_bridge import DATASET_REGISTRY, MODEL_REGISTRY, register_package
from hriusr.errors import OptionsError
from hriusr.models.sr_model import RestorationModel

if TYPE_CHECKING:
    from hriusr.options import Options


def as_basicsr_dict(options: "Options | Mapping[str, Any]") -> dict[str, Any]:
    """Return options in BasicSR's form, ours to change."""
    return copy.deepcopy(dict(options)) if isinstance(options, Mapping) else options.to_basicsr_dict()


def resolved_options(options: "Options | Mapping[str, Any]") -> str:
    """Return all options in force as YAML: bases merged, defaults filled in, overrides applied."""
    if isinstance(options, Mapping):
        return yaml.safe_dump(json.loads(json.dumps(options, default=str)), sort_keys=False)
    return options.to_yaml()


def build_dataset(entry: str, dataset_opt: Mapping[str, Any]) -> Dataset:
    """Build a dataset.

    Args:
        entry: its key under datasets, for messages.
        dataset_opt: with type, phase and scale; not changed.

    Raises:
        OptionsError: an unknown type.
        DataError: what the dataset finds wrong with the pictures.
    """
    register_package()
    type_name = dataset_opt.get("type")
    if type_name not in DATASET_REGISTRY:
        known = ", ".join(sorted(DATASET_REGISTRY.keys()))
        raise OptionsError(f"datasets.{entry}.type: unknown dataset {type_name!r}; one of {known}")
    return DATASET_REGISTRY.get(type_name)(copy.deepcopy(dict(dataset_opt)))


def build_model(opt: Mapping[str, Any]) -> RestorationModel:
    """Build the model that model_type names.

    Args:
        opt: options in BasicSR's form; copied.

    Raises:
        OptionsError: an unknown model, or one that does not follow RestorationModel's contract.
    """
    register_package()
    name = opt.get("model_type", "RestorationModel")
    model_class = MODEL_REGISTRY.get(name) if name in MODEL_REGISTRY else None
    if not (isinstance(model_class, type) and issubclass(model_class, RestorationModel)):
        known = sorted(key for key, value in MODEL_REGISTRY if issubclass(value, RestorationModel))
        raise OptionsError(f"model_type: {name!r} cannot be trained or tested here; one of {', '.join(known)}")
    return model_class(copy.deepcopy(dict(opt)))
