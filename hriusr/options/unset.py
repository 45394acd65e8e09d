"""`key: ~` in an option file, or on the command line: whatever a base has put there is unset, so the default stands."""

from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel


def drop_unset(values: Any, schema: Any) -> None:
    """Take out of nested values, in place, every None whose field does not take it: it asks for the default.

    None stays where it means something (manual_seed), in lists, and where the schema knows nothing: misspelt keys, and
    arguments of networks, losses and metrics, which components.py looks at.

    Args:
        values: of an option file, of a section or of an item.
        schema: its Section, or the annotation of its field.
    """
    for annotation in get_args(schema) if _is_union(schema) else (schema,):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(values, dict):
            annotations = {key: field.annotation for key, field in annotation.model_fields.items()}
        elif get_origin(annotation) is dict and isinstance(values, dict):
            annotations = dict.fromkeys(values, get_args(annotation)[1])
        elif get_origin(annotation) is list and isinstance(values, list):
            for item in values:
                drop_unset(item, get_args(annotation)[0])
            continue
        else:
            continue
        for key in annotations.keys() & values.keys():
            if values[key] is None and not _takes_none(annotations[key]):
                del values[key]
            else:
                drop_unset(values[key], annotations[key])


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _takes_none(annotation: Any) -> bool:
    return annotation is Any or (_is_union(annotation) and NoneType in get_args(annotation))
