"""Keys and names of BasicSR and HAT that mean nothing here: taken out of a document, with a word on each.

Nothing is dropped silently. A key whose value asks for nothing (`ldl_opt: ~`) goes without a word; one that asks
for something that is not there is ignored with a warning; old names of keys are taken for the new ones, with a warning;
a run that needs what is not there (video) is refused with the reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hriusr.options.data_schema import DatasetOptions
from hriusr.options.yaml_source import Document, KeyPath

_NO_SUCH_LOSS = "there is no such loss here"
_VIDEO = "it is for video, and only single pictures are supported"
_FACES = "it is for StyleGAN, which is not supported"

# key path (* stands for one key) -> why it has no effect
IGNORED = {
    "datasets.*.persistent_workers": "loading processes always stay for the whole run",
    "datasets.*.use_shuffle": "training patches are always drawn at random, test pictures always in order",
    "path.ignore_resume_networks": "a resumed run always takes its own weights",
    "train.ldl_opt": _NO_SUCH_LOSS,
    "train.feature_matching_opt": _NO_SUCH_LOSS,
    "train.tsa_iter": _VIDEO,
    "train.dcn_lr_mul": _VIDEO,
    "train.flow_lr_mul": _VIDEO,
    "train.fix_flow": _VIDEO,
    "train.fix_iter": _VIDEO,
    "train.lr_flow": _VIDEO,
    "val.flip_seq": _VIDEO,
    "val.center_frame_only": _VIDEO,
    "train.r1_reg_weight": _FACES,
    "train.path_reg_weight": _FACES,
    "train.net_g_reg_every": _FACES,
    "train.net_d_reg_every": _FACES,
    "train.mixing_prob": _FACES,
    "train.path_batch_shrink": _FACES,
    "val.num_val_samples": _FACES,
}

# old key path -> key of today, in the same section
RENAMED = {
    "datasets.*.use_flip": "use_hflip",
    "path.pretrain_model_g": "pretrain_network_g",
    "path.pretrain_model_d": "pretrain_network_d",
    "path.strict_load": "strict_load_g",
    "datasets.*.meta_info": "meta_info_file",
}

# name of a class of BasicSR's or HAT's -> why a run with it is refused
REFUSED_MODELS = {
    "ESRGANModel": "there is no relativistic discriminator; SRGANModel is the nearest",
    **dict.fromkeys(
        ["EDVRModel", "VideoBaseModel", "VideoGANModel", "VideoRecurrentModel", "VideoRecurrentGANModel"], _VIDEO
    ),
    **dict.fromkeys(["StyleGAN2Model", "HiFaceGANModel"], "face generation is not supported"),
}
REFUSED_DATASETS = {
    **dict.fromkeys(
        (
            "REDSDataset REDSRecurrentDataset Vimeo90KDataset Vimeo90KRecurrentDataset VideoTestDataset "
            "VideoTestVimeo90KDataset VideoTestDUFDataset VideoRecurrentTestDataset"
        ).split(),
        _VIDEO,
    ),
    "FFHQDataset": "face generation is not supported",
}


@dataclass(frozen=True)
class _Found:
    """A key of one of the tables above that stands in a document."""

    pattern: str
    path: KeyPath
    holder: dict[str, Any]


def take_out_foreign_keys(document: Document) -> None:
    """Rename old keys and remove those without effect, in place; what a user should know goes to document.warnings."""
    for found in list(_find(document.values, RENAMED)):
        new_key = RENAMED[found.pattern]
        old_key = found.path[-1]
        value = found.holder.pop(old_key)
        if new_key not in found.holder:
            found.holder[new_key] = value
            document.locations[(*found.path[:-1], new_key)] = document.locate(found.path)
        document.warnings.append(f"{document.locate(found.path)}: {old_key} is {new_key} nowadays; taken as such")

    ignored_for: dict[str, list[KeyPath]] = {}
    for found in list(_find(document.values, IGNORED)):
        value = found.holder.pop(found.path[-1])
        if not _asks_for_nothing(found, value):
            ignored_for.setdefault(IGNORED[found.pattern], []).append(found.path)
    for reason, paths in ignored_for.items():
        names = ", ".join(".".join(path) for path in paths)
        document.warnings.append(f"{document.locate(paths[0])}: ignored {names}: {reason}")


def drop_keys_of_refused_datasets(document: Document) -> None:
    """Drop keys that the schema does not know from datasets that are refused anyway; one word on those is enough."""
    datasets = document.values.get("datasets")
    for dataset in datasets.values() if isinstance(datasets, dict) else ():
        if isinstance(dataset, dict) and str(dataset.get("type")) in REFUSED_DATASETS:
            for key in set(dataset) - set(DatasetOptions.model_fields):
                del dataset[key]


def _asks_for_nothing(found: _Found, value: Any) -> bool:
    """Whether a value asks only for what is done anyway."""
    if found.pattern == "datasets.*.use_shuffle":
        return found.path[1] != "train" or value is True
    if found.pattern == "datasets.*.persistent_workers":
        return value is True
    return value is None


def _find(values: dict[str, Any], table: dict[str, str]) -> Iterator[_Found]:
    for pattern in table:
        yield from _match(values, pattern, pattern.split("."), ())


def _match(holder: Any, pattern: str, keys: list[str], path: KeyPath) -> Iterator[_Found]:
    if not isinstance(holder, dict):
        return
    key, rest = keys[0], keys[1:]
    for name in list(holder) if key == "*" else [key] if key in holder else []:
        if rest:
            yield from _match(holder[name], pattern, rest, (*path, name))
        else:
            yield _Found(pattern, (*path, name), holder)
