"""How large results are to be: as the network makes them, or by a factor, a width or a height of the user's."""

import math
from dataclasses import dataclass

from hriusr.errors import OptionsError


@dataclass(frozen=True)
class OutputSize:
    """The wanted size; at most one of scale and (width, height) is given.

    Attributes:
        scale: enlargement, any number above 0; None: the network's.
        width: of the result, pixels; the height follows where it is not given.
        height: of the result, pixels; the width follows where it is not given.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self):
        problems = [
            f"{name} (={value}) must be above 0, and finite"
            for name, value in (("scale", self.scale), ("width", self.width), ("height", self.height))
            if value is not None and not 0 < value < math.inf
        ]
        if self.scale is not None and (self.width, self.height) != (None, None):
            problems.append(f"scale (={self.scale:g}) and width or height contradict each other: leave one out")
        if problems:
            raise OptionsError("\n".join(problems))

    @property
    def mark(self) -> str | None:
        """What names of results say of the size; None: the network's scale."""
        if self.scale is not None:
            return f"x{self.scale:g}"
        marks = [f"{letter}{side}" for letter, side in (("w", self.width), ("h", self.height)) if side is not None]
        return "".join(marks) or None

    def of(self, height: int, width: int, network_scale: int) -> tuple[int, int]:
        """Return (height, width) of the result of a picture.

        Args:
            height: of the source.
            width: of the source.
            network_scale: the network's enlargement.
        """
        if self.width is not None and self.height is not None:
            return self.height, self.width
        factor = self.scale if self.scale is not None else float(network_scale)
        if self.width is not None:
            factor = self.width / width
        if self.height is not None:
            factor = self.height / height
        return (
            self.height or max(1, round(height * factor)),
            self.width or max(1, round(width * factor)),
        )
