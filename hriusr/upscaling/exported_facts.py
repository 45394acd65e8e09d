"""What an exported network says of itself, in its file: all that `hriusr upscale` must know beside the graph.

Written as JSON: in an ONNX file under the metadata property "hriusr", in a .pt2 and a TorchScript archive as the extra
file "hriusr.json".
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from hriusr.errors import WeightsError

PROPERTY = "hriusr"
EXTRA_FILE = "hriusr.json"


@dataclass(frozen=True)
class ExportedFacts:
    """The facts.

    Attributes:
        scale: enlargement.
        in_chans: channels of the picture, in and out.
        size_multiple: what its windows repeat with, low-resolution pixels; tiles start at its multiples.
        precision: number format of its weights: fp32, fp16 or bf16. Input and output are always fp32, 0..1.
        bytes_per_pixel: memory of a pass for each low-resolution pixel, at its peak, as upscaling/memory_plan.py
            measures it; for planning tiles.
        network_g: `type` and constructor arguments of the network it was made from; None where nobody knows them.
        version: of hriusr, when it was written.
    """

    scale: int
    in_chans: int
    size_multiple: int
    precision: str
    bytes_per_pixel: float
    network_g: dict[str, Any] | None
    version: str

    def to_json(self) -> str:
        """Return the text that is stored."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str | None, source: str) -> "ExportedFacts":
        """Read what to_json wrote.

        Args:
            text: what the file holds; None where it holds nothing.
            source: the file's name, for the error.

        Raises:
            WeightsError: no facts, or not these.
        """
        if text is None:
            raise WeightsError(f"{source} was not made by hriusr export: its scale and channels are unknown; export it")
        try:
            content = json.loads(text)
            known = {field.name: content[field.name] for field in dataclasses.fields(ExportedFacts)}
        except (ValueError, TypeError, KeyError) as error:
            raise WeightsError(
                f"{source}: its metadata {PROPERTY!r} are of another version or damaged ({error!r}): export it anew"
            ) from None
        return ExportedFacts(**known)
