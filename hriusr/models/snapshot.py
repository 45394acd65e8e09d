"""Copies on the CPU of what is trained, so that training may go on while they are written."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def copy_to_cpu(content: Any) -> Any:
    """Copy nested mappings, lists and tuples with their tensors; all else is taken over as it is.

    Args:
        content: tensors and plain Python types.

    Returns:
        The same, sharing no tensor with the original.
    """
    if isinstance(content, Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, Mapping):
        return {key: copy_to_cpu(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(copy_to_cpu(value) for value in content)
    return content
