"""From the tensors of a file to its network: architecture and constructor arguments.

| network | found by |
|---|---|
| ours, marked | the marker (archs/marker.py), exactly |
| SwinIR, HAT, Swin2SR | names and shapes of published files (archs/detect_swin.py) |
| ours, unmarked | names and shapes (archs/detect_own.py) |
| RRDBNet of ESRGAN, x4 | names and shapes (archs/detect_rrdbnet.py) |

What no tensor tells is listed in the result with the reason, and can be set by hand.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hriusr.archs.detect_own import detect_own, is_own
from hriusr.archs.detect_parts import Detection
from hriusr.archs.detect_rrdbnet import detect_rrdbnet, is_rrdbnet
from hriusr.archs.detect_swin import detect_swin_family, is_swin_family
from hriusr.archs.marker import read_marker
from hriusr.errors import WeightsError

logger = logging.getLogger(__name__)

_FAMILIES = ((is_own, detect_own), (is_swin_family, detect_swin_family), (is_rrdbnet, detect_rrdbnet))


def detect_network(state: Mapping[str, Tensor], *, source: str | Path = "the file") -> Detection | None:
    """Find the network that a state_dict is of.

    Args:
        state: a bare state_dict, without wrappers' prefixes.
        source: the file's name, for messages.

    Returns:
        Architecture and arguments, or None where it is of no known family.

    Raises:
        WeightsError: it is of a known family, but of a kind that is not supported.
    """
    marked = read_marker(state)
    if marked is not None:
        return Detection(marked)
    for is_family, detect in _FAMILIES:
        if is_family(state):
            try:
                return detect(state)
            except WeightsError as error:
                raise WeightsError(f"{source} {error}") from None
            except (ValueError, LookupError, ArithmeticError):  # shapes that no network has
                raise WeightsError(f"{source} has tensors of other shapes than their names promise") from None
    return None


def set_arguments(found: Detection, settings: Mapping[str, Any]) -> Detection:
    """Return a detection with arguments set by hand; what is set is no longer assumed."""
    return Detection(
        {**found.network_opt, **settings},
        {name: reason for name, reason in found.assumed.items() if name not in settings},
        {name: reason for name, reason in found.doubtful.items() if name not in settings},
    )


def log_assumptions(found: Detection, source: str | Path) -> None:
    """Say what a detection took for granted: doubts as a warning."""
    logger.info("%s: %s found from its tensors", source, found.network_opt["type"])
    if found.assumed:
        logger.info("%s: not in the file, usual values taken: %s", source, found.describe(found.assumed))
    if found.doubtful:
        reasons = "; ".join(dict.fromkeys(found.doubtful.values()))
        logger.warning(
            "%s: not in the file, assumed: %s (%s); change it by --set NAME=VALUE",
            source,
            found.describe(found.doubtful),
            reasons,
        )
