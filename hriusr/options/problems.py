"""Collect everything that is wrong with an option file, so that it can be said at once."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from hriusr.errors import OptionsError
from hriusr.options.spelling import did_you_mean, nearest_word
from hriusr.options.yaml_source import Document, KeyPath

# pydantic's words -> ours
_REWORDED = (
    (r"should be a valid dictionary( or instance of \w+)?", "must be a section of `key: value` lines"),
    (r"should be a valid boolean.*", "must be true or false"),
    (r"should be a valid integer.*", "must be a whole number"),
    (r"should be a valid number.*", "must be a number"),
    (r"should be a valid string", "must be text; put it into quotes"),
    (r"should be a valid list", "must be a list [a, b]"),
    (r"should be a valid tuple", "must be a list [a, b]"),
    (r"should be ", "must be "),
)


@dataclass
class Problems:
    """What is wrong and what looks odd, each with its place.

    Attributes:
        document: where values were written.
        errors: (place, message); the run is refused.
        warnings: lines for the log; the run goes on.
        taken_out: paths of values that were at fault and taken out, so that the rest can be checked; that they are not
            there, or contradict something, is no news.
    """

    document: Document
    errors: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    taken_out: set[KeyPath] = field(default_factory=set)

    def error(self, path: tuple[Any, ...], message: str) -> None:
        """Note an error at a key; not twice, and not where the value was taken out before."""
        if any(tuple(path[: len(gone)]) == gone for gone in self.taken_out):
            return
        entry = (str(self.document.locate(path)), message)
        if entry not in self.errors:
            self.errors.append(entry)

    def warn(self, path: tuple[Any, ...], message: str) -> None:
        """Note something odd at a key."""
        self.warnings.append(f"{self.document.locate(path)}: {message}")

    def raise_errors(self, option_file: Path) -> None:
        """Raise OptionsError with all errors, in the order of files and lines, if there are any."""
        if not self.errors:
            return
        lines = [f"{place}: {message}" for place, message in sorted(self.errors, key=lambda entry: _by_line(entry[0]))]
        if len(lines) == 1:
            raise OptionsError(lines[0])
        raise OptionsError("\n  ".join([f"{len(lines)} problems in {option_file}", *lines]))


def note_validation_errors(
    error: ValidationError, values: dict[str, Any], schema: type[BaseModel], problems: Problems
) -> None:
    """Note pydantic's errors in our words, and mend the values so far that the rest of them can be checked.

    A misspelt key is taken for its neighbour; a wrong value is taken out, and so is a section without a needed key.

    Args:
        error: what validating the values raised.
        values: the values, changed in place.
        schema: the model they were validated with.
        problems: where to note the errors.
    """
    details = [(_path_in_document(detail["loc"], values), detail) for detail in error.errors(include_url=False)]
    # misspelt keys first: what they stand for is then not missing
    details.sort(key=lambda item: item[1]["type"] != "extra_forbidden")
    for path, detail in details:
        if detail["type"] == "extra_forbidden":
            key = str(path[-1])
            problems.error(path, _unknown_key(path, schema))
            nearest = nearest_word(key, _fields_at(schema, path[:-1]))
            section = _value_at(values, path[:-1])
            value = section.pop(key)
            if nearest is not None and nearest not in section:
                section[nearest] = value
                problems.document.locations[(*path[:-1], nearest)] = problems.document.locate(path)
        elif detail["type"] == "missing":
            section = _value_at(values, path[:-1])
            if isinstance(section, dict) and path[-1] in section:
                continue
            problems.error(path, _missing_key(path, schema))
            at_fault = _out_of_lists(path[:-1], values)
            problems.taken_out.add(at_fault or path)
            _take_out(values, at_fault)
        else:
            problems.error(path, _wrong_value(path, detail["input"], detail["msg"]))
            at_fault = _out_of_lists(path, values)
            problems.taken_out.add(at_fault)
            _take_out(values, at_fault)


def dotted(path: tuple[Any, ...]) -> str:
    """Write a path as in messages: train.optim_g.lr."""
    return ".".join(str(key) for key in path)


def all_keys(model: type[BaseModel], path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every key a schema knows; * stands for a key that users choose, or an item of a list."""
    for name, field_info in model.model_fields.items():
        yield (*path, name)
        inner, has_items = _model_of(field_info.annotation)
        if inner is not None:
            yield from all_keys(inner, (*path, name, "*") if has_items else (*path, name))


def _unknown_key(path: KeyPath, schema: type[BaseModel]) -> str:
    *section, key = path
    where = f" in {dotted(tuple(section))}" if section else ""
    return f"unknown key {key!r}{where}{_where_it_belongs(key, tuple(section), schema)}"


def _missing_key(path: KeyPath, schema: type[BaseModel]) -> str:
    return f"{dotted(path)} is missing: {_fields_at(schema, path[:-1])[path[-1]].description}"


def _wrong_value(path: KeyPath, value: Any, message: str) -> str:
    is_section = isinstance(value, (dict, BaseModel))
    written = "a section" if is_section else f"={value:g}" if isinstance(value, float) else f"={value!r}"
    return f"{dotted(path)} ({written}): {_plain(message)}"


def _plain(message: str) -> str:
    """Reword pydantic's messages for a person who writes option files."""
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    for theirs, ours in _REWORDED:
        message = re.sub(theirs, ours, message)
    return message


def _where_it_belongs(key: str, section: tuple[str, ...], schema: type[BaseModel]) -> str:
    known_here = [name for name in _fields_at(schema, section) if name != key]
    nearest = did_you_mean(key, known_here, list_all=False)
    if nearest:
        return nearest
    elsewhere = [path for path in all_keys(schema) if path[-1] == key]
    if elsewhere:
        return f"; it belongs to {' or '.join(dotted(path[:-1]) or 'the top level' for path in elsewhere)}"
    return did_you_mean(key, known_here)


def _path_in_document(location: tuple[Any, ...], values: Any) -> KeyPath:
    """Drop what pydantic adds to a location that is no key of the file: the branch of a union, for instance."""
    path: list[str] = []
    for step, key in enumerate(location):
        is_last = step == len(location) - 1
        holds_key = (isinstance(values, dict) and key in values) or (isinstance(values, list) and isinstance(key, int))
        if holds_key:
            values = values[key] if isinstance(values, dict) or key < len(values) else None
        elif not (is_last and isinstance(values, dict)):
            continue
        path.append(str(key))
    return tuple(path)


def _value_at(values: Any, path: KeyPath) -> Any:
    """Return what stands at a path; None where it leads nowhere."""
    for key in path:
        if isinstance(values, dict):
            values = values.get(key)
        else:
            values = values[int(key)] if isinstance(values, list) and int(key) < len(values) else None
    return values


def _out_of_lists(path: KeyPath, values: Any) -> KeyPath:
    """Return the path or, for an item of a list, that of the list."""
    while path and isinstance(_value_at(values, path[:-1]), list):
        path = path[:-1]
    return path


def _take_out(values: dict[str, Any], path: KeyPath) -> None:
    holder = _value_at(values, path[:-1]) if path else None
    if isinstance(holder, dict):
        holder.pop(path[-1], None)


def _fields_at(schema: type[BaseModel], section: tuple[str, ...]) -> dict[str, Any]:
    model: type[BaseModel] | None = schema
    keys = list(section)
    while keys and model is not None:
        name = keys.pop(0)
        field_info = model.model_fields.get(name)
        model, has_items = _model_of(field_info.annotation) if field_info else (None, False)
        if has_items and keys:
            keys.pop(0)
    return dict(model.model_fields) if model else {}


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the section a field holds, if any, and whether it holds a mapping or a list of such sections."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    if get_origin(annotation) in (Union, UnionType):
        found = [_model_of(branch) for branch in get_args(annotation)]
        return next((item for item in found if item[0] is not None), (None, False))
    if get_origin(annotation) in (dict, list):
        return _model_of(get_args(annotation)[-1])[0], True
    return None, False


def _by_line(place: str) -> tuple[str, int]:
    source, _, line = place.rpartition(":")
    return (source, int(line)) if line.isdigit() else (place, 0)
