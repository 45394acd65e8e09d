"""Read a YAML file as plain values together with the line each of them stands on.

A path is the tuple of keys that leads to a value: ("train", "optim_g", "lr").
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hriusr.errors import OptionsError
from hriusr.options.spelling import did_you_mean

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Location:
    """Where a value was written: a file and a line counted from 1, or the command line."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass
class Document:
    """Values of one or several overlaid files, where each of them was written, and what looked odd."""

    values: dict[str, Any]
    locations: dict[KeyPath, Location] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def locate(self, path: tuple[Any, ...]) -> Location:
        """Return where a value was written; for one that was not, where its nearest written parent was."""
        keys = tuple(str(key) for key in path)
        while keys not in self.locations and keys:
            keys = keys[:-1]
        return self.locations[keys]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML speaks it, but for 4:05: that is text, no number to base 60."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        """Return the tag of a node."""
        tag = super().resolve(kind, value, implicit)
        is_base_60 = tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and ":" in value
        return self.DEFAULT_SCALAR_TAG if is_base_60 else tag


def read_document(path: Path) -> Document:
    """Read an option file.

    Args:
        path: the file, UTF-8.

    Returns:
        Its values (a mapping with string keys) and their lines.

    Raises:
        OptionsError: missing or unreadable file, bad YAML (with its line), no mapping, a key twice.
    """
    text = _read_text(path)
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise OptionsError(f"{path}:{line}: bad YAML: control character #x{error.character:02x}; delete it") from error
    try:
        root = loader.get_single_node()
        if root is None:
            raise OptionsError(f"{path}: the file is empty; it needs at least name, datasets and network_g")
        if not isinstance(root, yaml.MappingNode):
            raise OptionsError(f"{path}:{root.start_mark.line + 1}: the file must hold `key: value` lines")
        warnings = list(_keys_twice(root, path))
        locations = {(): Location(str(path))}
        locations.update((keys, Location(str(path), line)) for keys, line in _walk(loader, root, path))
        values = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise OptionsError(_bad_yaml(path, error)) from error
    except yaml.YAMLError as error:
        raise OptionsError(f"{path}: bad YAML: {error}") from error
    except RecursionError as error:
        raise OptionsError(f"{path}: bad YAML: an alias (*name) stands inside the value it names") from error
    finally:
        loader.dispose()
    return Document(values, locations, warnings)


def parse_scalar(text: str, source: str) -> Any:
    """Read the value of `--force_yml key=value` as YAML: 5, 2e-4, true, ~, [1, 2], !!float 5e3.

    Raises:
        OptionsError: the text is no YAML.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise OptionsError(f"{source}: {text!r} is no YAML value: {problem}") from error


def _read_text(path: Path) -> str:
    if not path.exists():
        siblings = sorted(item.name for item in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        raise OptionsError(f"option file {path} does not exist{did_you_mean(path.name, siblings, list_all=False)}")
    if path.is_dir():
        raise OptionsError(f"option file {path} is a folder; give a .yml file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OptionsError(f"option file {path} is not UTF-8 text (byte {error.start}); is it a .yml file?") from error
    except OSError as error:
        raise OptionsError(f"option file {path} cannot be read: {error.strerror}") from error


def _bad_yaml(path: Path, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    problem = error.problem or "cannot be read"
    if "'\\t'" in problem:
        problem += " (a tab; indent with spaces)"
    if error.context:
        problem += f", {error.context}"
        if error.context_mark and mark and error.context_mark.line != mark.line:
            problem += f" that began on line {error.context_mark.line + 1}"
    return f"{where}: bad YAML: {problem}"


def _keys_twice(node: yaml.Node, path: Path) -> Iterator[str]:
    """Warn of a key that stands twice in one mapping with the same value; refuse one with two values."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _keys_twice(item, path)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        yield from _keys_twice(value, path)
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.value in seen:
            first_key, first_value = seen[key.value]
            lines = f"lines {first_key.start_mark.line + 1} and {key.start_mark.line + 1}"
            message = f"{path}:{key.start_mark.line + 1}: key {key.value!r} stands twice, on {lines}"
            if yaml.serialize(first_value) != yaml.serialize(value):
                raise OptionsError(f"{message}; keep one")
            yield f"{message}, with the same value"
        seen[key.value] = (key, value)


def _wrong_key(key: yaml.Node, name: Any) -> str:
    if isinstance(key, yaml.ScalarNode):
        return f"the key {key.value} is read as {name!r}; put it into quotes"
    return f"a {'list' if isinstance(key, yaml.SequenceNode) else 'mapping'} stands where a key should; write a word"


def _walk(loader: yaml.SafeLoader, node: yaml.Node, path: Path, keys: KeyPath = ()) -> Iterator[tuple[KeyPath, int]]:
    """Yield the path and line of every key; an item of a list has the line of the item."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*keys, str(index)), item.start_mark.line + 1
            yield from _walk(loader, item, path, (*keys, str(index)))
    if not isinstance(node, yaml.MappingNode):
        return
    loader.flatten_mapping(node)
    for key, value in node.value:
        name = loader.construct_object(key)
        line = key.start_mark.line + 1
        if not isinstance(name, str):
            raise OptionsError(f"{path}:{line}: {_wrong_key(key, name)}")
        yield (*keys, name), line
        yield from _walk(loader, value, path, (*keys, name))
