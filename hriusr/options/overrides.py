"""`--force_yml train:total_iter=1000 network_g:embed_dim=60`: single values set from the command line.

The value is read as YAML, never evaluated. A key need not stand in the file; whether the schema (or the network's
signature) knows it is checked afterwards, together with the rest.
"""

from collections.abc import Iterable
from typing import Any

from hriusr.errors import OptionsError
from hriusr.options.yaml_source import Document, Location, parse_scalar


def apply_overrides(document: Document, overrides: Iterable[str]) -> None:
    """Set values in a document, in place, in the order given.

    Args:
        document: the option file's values.
        overrides: texts "section:key=value"; a number as section counts the items of a list, from 0.

    Raises:
        OptionsError: no "=", an empty key, keys set apart by dots, `base`, a value that is no YAML, or a path through
            something that holds no keys.
    """
    for override in overrides:
        source = f"--force_yml {override}"
        path_text, equals, value_text = override.partition("=")
        keys = tuple(key.strip() for key in path_text.split(":"))
        if not equals or not all(keys):
            raise OptionsError(f"{source}: write it as section:key=value, for example train:total_iter=1000")
        if "." in keys[0]:
            raise OptionsError(
                f"{source}: keys are set apart by colons; write {path_text.replace('.', ':')}={value_text}"
            )
        if keys[0] == "base":
            raise OptionsError(f"{source}: bases are read before this; write `base:` in the option file")
        _set(document, keys, _value(keys[-1], value_text.strip(), source), source)


def _value(key: str, text: str, source: str) -> Any:
    if key == "filename_tmpl" and text[:1] == "{":  # {}x4, and {}, which YAML takes for a mapping
        return text
    return parse_scalar(text, source)


def _set(document: Document, keys: tuple[str, ...], value: Any, source: str) -> None:
    holder: Any = document.values
    for depth, key in enumerate(keys[:-1]):
        if isinstance(holder, dict) and holder.get(key) is None:
            holder[key] = {}
            document.locations[keys[: depth + 1]] = Location(source)
        holder = holder[_slot(holder, key, source)]
    slot = _slot(holder, keys[-1], source)
    holder[slot] = value
    for path in [path for path in document.locations if path[: len(keys)] == keys]:
        del document.locations[path]
    document.locations[keys] = Location(source)


def _slot(holder: Any, key: str, source: str) -> str | int:
    """Return the key of a mapping or the index of a list."""
    if isinstance(holder, dict):
        return key
    if isinstance(holder, list) and key.isdigit() and int(key) < len(holder):
        return int(key)
    raise OptionsError(f"{source}: {key!r} leads nowhere, what is left of it is {holder!r}")
