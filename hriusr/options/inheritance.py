"""`base:` - an option file that says only how it differs from others.

    base: hriusr_light_x2.yml            or   base: [recipe_500k.yml, data_df2k.yml]

Paths are relative to the file that names them. Bases are laid over each other in their order, the file itself last:
mappings are merged key by key, lists and values replaced. A mapping whose `type` changes is replaced as a whole, since
its other keys are arguments of the old type. `key: ~` unsets. `name` is not inherited: two runs of one name would share
a folder; a file without `name` takes its own file name.
"""

from pathlib import Path
from typing import Any

from hriusr.errors import OptionsError
from hriusr.options.yaml_source import Document, KeyPath, Location, read_document


def read_with_bases(path: Path) -> Document:
    """Read an option file and all it inherits from.

    Args:
        path: the option file.

    Returns:
        The merged values without `base`; each value's location is in the file that it came from.

    Raises:
        OptionsError: a file missing or unreadable, a base that is no path, a cycle.
    """
    document = _read(path, ())
    if document.values.get("name") is None:
        document.values["name"] = path.stem
        document.locations[("name",)] = document.locations[()]
    return document


def _read(path: Path, heirs: tuple[Path, ...]) -> Document:
    lineage = (*heirs, path.resolve())
    document = read_document(path)
    base_names = document.values.pop("base", None)
    merged = Document({})
    for index, base_name in enumerate(_base_list(base_names, document)):
        base_path = path.parent / Path(base_name).expanduser()
        if not base_path.is_file():
            raise OptionsError(f"{document.locate(('base',))}: base {base_name!r} does not exist: no {base_path}")
        real_path = base_path.resolve()
        if real_path in lineage:
            chain = [*lineage[lineage.index(real_path) :], real_path]
            place = document.locate(("base", index))
            raise OptionsError(f"{place}: base goes in a circle: {' -> '.join(item.name for item in chain)}")
        base = _read(base_path, lineage)
        base.values.pop("name", None)
        _overlay(merged, base)
    _overlay(merged, document)
    return merged


def _base_list(base_names: Any, document: Document) -> list[str]:
    if base_names is None:
        return []
    names = [base_names] if isinstance(base_names, str) else base_names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise OptionsError(f"{document.locate(('base',))}: base (={base_names!r}) must be a file or a list of files")
    return names


def _overlay(below: Document, above: Document) -> None:
    """Lay one document over another, in place."""
    _overlay_mapping(below, above, below.values, above.values, ())
    below.locations[()] = above.locations[()]
    below.warnings.extend(warning for warning in above.warnings if warning not in below.warnings)


def _overlay_mapping(below: Document, above: Document, target: dict, source: dict, path: KeyPath) -> None:
    for key, value in source.items():
        here = (*path, key)
        old = target.get(key)
        is_merged = isinstance(old, dict) and isinstance(value, dict) and _same_type(old, value)
        if is_merged:
            below.locations[here] = above.locate(here)
            _overlay_mapping(below, above, old, value, here)
            continue
        target[key] = value
        _drop_locations(below.locations, here)
        below.locations.update(_locations_under(above.locations, here))


def _same_type(old: dict, new: dict) -> bool:
    return "type" not in new or "type" not in old or new["type"] == old["type"]


def _drop_locations(locations: dict[KeyPath, Location], path: KeyPath) -> None:
    for key in list(_locations_under(locations, path)):
        del locations[key]


def _locations_under(locations: dict[KeyPath, Location], path: KeyPath) -> dict[KeyPath, Location]:
    return {key: location for key, location in locations.items() if key[: len(path)] == path}
