"""What became of the pictures of a run: for the summary, for scripts (JSON), for the exit status."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What became of one picture or video.

    Attributes:
        name: the file's path below the input folder.
        target: where its result is, or would be.
        status: "written", "skipped" (the result exists) or "failed".
        reason: why it was skipped or failed, one line.
        size: (height, width) of the result; (0, 0) unless written.
        num_frames: of the result.
        seconds: reading, computing and writing.
        notes: what a person should know of the result, one line each.
        seams: what check_seams found, see SeamReport.
    """

    name: str
    target: Path
    status: str
    reason: str = ""
    size: tuple[int, int] = (0, 0)
    num_frames: int = 1
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    seams: dict[str, Any] | None = None

    @property
    def num_pixels(self) -> int:
        """Pixels of the result, all frames together."""
        return self.size[0] * self.size[1] * self.num_frames


@dataclass
class UpscaleReport:
    """Outcomes of a run, in the order of the pictures.

    Attributes:
        outcomes: one for each picture that the run came to.
        notes: decisions that concern the run as a whole.
        scale: of the results; None: each has its own, as where the width was given.
        num_left: pictures that a run which was interrupted did not finish.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scale: float | None = 1
    num_left: int = 0

    def having(self, status: str) -> list[Outcome]:
        """Return the outcomes of one status."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def failures(self) -> list[Outcome]:
        """Return the pictures that failed; empty means that an entry point should exit with 0."""
        return self.having("failed")

    def summary(self) -> str:
        """Say in one line how the run went."""
        written = self.having("written")
        seconds = sum(outcome.seconds for outcome in written)
        num_pixels = sum(outcome.num_pixels for outcome in written)
        num_all = len(self.outcomes) + self.num_left
        parts = [f"{len(written)} of {num_all} picture(s) written"]
        if written:
            is_one = num_all == 1
            where = written[0].target if is_one else os.path.commonpath([w.target.parent.resolve() for w in written])
            parts[0] += f" to {where}"
            parts += [] if self.scale is None else [f"x{self.scale:g}"]
            parts.append(f"{num_pixels / 1e6:.1f} megapixels in {seconds:.1f} s")
        if self.having("skipped"):
            parts.append(f"{len(self.having('skipped'))} skipped")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        if self.num_left:
            parts.append(f"{self.num_left} not finished")
        return ", ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        outcomes = []
        for outcome in self.outcomes:
            height, width = outcome.size
            outcomes.append(asdict(outcome) | {"target": str(outcome.target), "size": [width, height]})
        return {"scale": self.scale, "pictures": outcomes, "notes": self.notes}
