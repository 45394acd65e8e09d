"""Weights as ONNX files of one's own machine: exported when they are first wanted, kept for the next time."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hriusr import __version__
from hriusr.archs.pretrained import find_weights
from hriusr.errors import HriusrError, WeightsError
from hriusr.exporting.export import export_network
from hriusr.upscaling.receptive_field import cache_folder


def exported_onnx(weights: str | Path, settings: Mapping[str, Any] | None = None) -> Path:
    """Return an ONNX file of some weights.

    Args:
        weights: a file, or the name of weights that come with hriusr; a file that is ONNX already is returned as it is.
        settings: constructor arguments to use instead of what the file says.

    Raises:
        WeightsError: no such weights, or nobody knows their network.
        HriusrError: a package that exporting needs is missing, or the result differs from the network.
    """
    path = find_weights(weights)
    if path.suffix == ".onnx":
        return path
    if not path.is_file():
        raise WeightsError(f"weights {path}: not there (paths are relative to where you run); give a weights file")
    digest = hashlib.sha256(path.read_bytes())
    digest.update(json.dumps([__version__, dict(settings or {})], sort_keys=True).encode())
    target = cache_folder() / "onnx" / f"{path.stem}_{digest.hexdigest()[:16]}.onnx"
    if not target.exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HriusrError(
                f"cannot make the folder {target.parent} ({error.strerror}): "
                "let HRIUSR_CACHE name one that can be written"
            ) from None
        export_network(path, target, settings=settings)
    return target
