"""Whatever goes wrong while something is tried becomes a finding that names what was tried."""

import contextlib
import traceback
from collections.abc import Iterator

import torch

from hriusr.doctor.findings import Report, remedy_apart
from hriusr.errors import HriusrError


class AttemptFailedError(Exception):
    """What was tried went wrong; the finding is noted already."""


@contextlib.contextmanager
def attempt(what: str, report: Report, place: str, *, too_large: tuple[str, str]) -> Iterator[None]:
    """Note what goes wrong meanwhile.

    Args:
        what: is tried, in words.
        report: gets the finding.
        place: of the finding.
        too_large: message and remedy where the memory does not suffice.

    Raises:
        AttemptFailedError: it went wrong.
    """
    try:
        yield
    except AttemptFailedError:
        raise
    except HriusrError as error:
        report.add("error", place, *remedy_apart(str(error)))
    except (torch.OutOfMemoryError, MemoryError):
        report.add("error", place, *too_large)
    except Exception as error:  # a traceback would take all other findings with it
        told = str(error).strip().split("\n", maxsplit=1)[0]
        report.add(
            "error",
            place,
            f"{what} failed: {type(error).__name__}{': ' * bool(told)}{told}",
            "the run would fail alike: check what it names in network_g, train and datasets",
            (_where(error),),
        )
    else:
        return
    raise AttemptFailedError(what)


def _where(error: Exception) -> str:
    """Return file:line of the innermost code that is no library's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f"{own[-1].filename}:{own[-1].lineno}"
