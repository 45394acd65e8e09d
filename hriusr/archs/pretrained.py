"""The weights that come with hriusr, by name: those in experiments/pretrained_models, which installing takes along."""

import os
from pathlib import Path

from hriusr.errors import WeightsError

DEFAULT = "hriusr_fast_x2"
_DEFAULT_BEYOND_2 = "hriusr_fast_x4"
_PACKAGE = Path(__file__).resolve().parents[1]
# beside the package's modules where it was installed (setup.py), else in the project's own folder
_FOLDERS = (_PACKAGE / "pretrained_models", _PACKAGE.parent / "experiments" / "pretrained_models")
_PREFIX = "hriusr_"


def shipped_weights() -> dict[str, Path]:
    """Return name -> file of all weights that are here."""
    for folder in _FOLDERS:
        files = sorted(folder.glob("*.safetensors"))
        if files:
            return {path.stem: path for path in files}
    return {}


def default_weights(scale: float | None) -> str:
    """Name the weights that are taken where none are named.

    Args:
        scale: wanted factor; None: the network's.
    """
    return _DEFAULT_BEYOND_2 if scale is not None and scale > 2 else DEFAULT


def find_weights(name: str | Path) -> Path:
    """Return the file that a user means: a path, or the name of shipped weights.

    Args:
        name: a file; or a name, also without `hriusr_` and with hyphens (fast-x2).

    Raises:
        WeightsError: neither a file nor a name, or a path that cannot be looked up.
    """
    path = Path(name)
    if _exists(path) or path.suffix or len(path.parts) > 1:
        return path  # whoever reads it says what is wrong with it
    shipped = shipped_weights()
    wanted = str(name).replace("-", "_")
    for candidate in (wanted, _PREFIX + wanted):
        if candidate in shipped:
            return shipped[candidate]
    known = ", ".join(shipped) or "none: this installation has no weights"
    raise WeightsError(f"weights {name}: neither a file nor the name of weights that come with hriusr ({known})")


def _exists(path: Path) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read ({error.strerror}): check name and permissions") from None
    return True
