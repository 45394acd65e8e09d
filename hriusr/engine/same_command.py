"""What a user is told to do to go on with a run that ended early."""

from collections.abc import Mapping
from typing import Any

AUTO, NEW = "auto", "new"
"""The words that path.resume_state may be."""


def same_command(opt: Mapping[str, Any]) -> str:
    """Name the command that goes on with a run: the one that started it, without the word that starts anew."""
    is_new = (opt.get("path") or {}).get("resume_state") == NEW
    return f"the same command without path:resume_state={NEW}" if is_new else "the same command"
