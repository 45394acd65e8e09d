"""Measured pictures as CSV, JSON and Markdown: one row a picture, one mean a dataset, and the protocol beside them."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hriusr.atomic_file import write_atomically

_DIGITS = {"psnr": 2, "psnrb": 2, "ssim": 4}


@dataclass(frozen=True)
class PictureRow:
    """What was measured of one picture.

    Attributes:
        dataset: name of its dataset.
        image: its file name without ending.
        height: of the result, pixels.
        width: of the result, pixels.
        metrics: label -> value; empty without ground truth.
        bicubic: the same of MATLAB's bicubic enlargement; empty where it was not asked for.
        seconds: time of the network.
    """

    dataset: str
    image: str
    height: int
    width: int
    metrics: dict[str, float] = field(default_factory=dict)
    bicubic: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return one flat dict; labels of the bicubic values begin with bicubic_."""
        return {
            "dataset": self.dataset,
            "image": self.image,
            "height": self.height,
            "width": self.width,
            **self.metrics,
            **{f"bicubic_{label}": value for label, value in self.bicubic.items()},
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True)
class DatasetMean:
    """Means over those of a dataset's pictures that could be measured, else NaN; labels as in PictureRow.

    Attributes:
        dataset: name.
        num_pictures: all of the dataset.
        metrics: label -> mean.
        bicubic: the same of the bicubic enlargement.
        seconds: mean time of the network.
        num_measured: label -> how many pictures its mean is of.
    """

    dataset: str
    num_pictures: int
    metrics: dict[str, float]
    bicubic: dict[str, float]
    seconds: float
    num_measured: dict[str, int] = field(default_factory=dict)


def dataset_means(rows: Sequence[PictureRow]) -> list[DatasetMean]:
    """Average each dataset, in the order they come; the mean of PSNR is that of the decibels, as papers do."""
    by_dataset: dict[str, list[PictureRow]] = {}
    for row in rows:
        by_dataset.setdefault(row.dataset, []).append(row)
    return [
        DatasetMean(
            name,
            len(group),
            _mean([row.metrics for row in group]),
            _mean([row.bicubic for row in group]),
            sum(row.seconds for row in group) / len(group),
            Counter(label for row in group for label, value in row.metrics.items() if not math.isnan(value)),
        )
        for name, group in by_dataset.items()
    ]


def write_report(folder: str | Path, rows: Sequence[PictureRow], protocol: Mapping[str, Any]) -> list[Path]:
    """Write report.csv, report.json and report.md.

    Args:
        folder: made where missing.
        rows: at least one.
        protocol: what the numbers depend on (weights, border, precision, versions ...), JSON types.

    Returns:
        The files.
    """
    contents = {"csv": csv_report(rows), "json": json_report(rows, protocol), "md": markdown_report(rows, protocol)}
    paths = []
    for ending, content in contents.items():
        paths.append(Path(folder, f"report.{ending}"))
        write_atomically(paths[-1], content.encode("utf-8"))
    return paths


def csv_report(rows: Sequence[PictureRow]) -> str:
    """Return one line a picture and one a dataset, whose image is called `mean`."""
    lines = [row.as_dict() for row in rows]
    for mean in dataset_means(rows):
        lines.append(PictureRow(mean.dataset, "mean", "", "", mean.metrics, mean.bicubic, mean.seconds).as_dict())
    columns = list(dict.fromkeys(column for line in lines for column in line if column != "seconds"))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, "seconds"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def json_report(rows: Sequence[PictureRow], protocol: Mapping[str, Any]) -> str:
    """Return protocol, means and pictures; infinity is the string "inf", which JSON lacks, and NaN is null."""
    means = [
        {
            "dataset": mean.dataset,
            "num_pictures": mean.num_pictures,
            **mean.metrics,
            **{f"bicubic_{label}": value for label, value in mean.bicubic.items()},
            "seconds": round(mean.seconds, 4),
        }
        for mean in dataset_means(rows)
    ]
    content = {"protocol": dict(protocol), "means": means, "pictures": [row.as_dict() for row in rows]}
    return json.dumps(_json_value(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def markdown_report(rows: Sequence[PictureRow], protocol: Mapping[str, Any]) -> str:
    """Return a table of means, the protocol, and a table of pictures."""
    means = dataset_means(rows)
    parts = [
        _markdown_table("dataset", [(mean.dataset, mean.metrics, mean.bicubic) for mean in means]),
        "\n".join(f"- {key}: {value}" for key, value in protocol.items()),
    ]
    for mean in means:
        pictures = [(row.image, row.metrics, row.bicubic) for row in rows if row.dataset == mean.dataset]
        parts.append(f"## {mean.dataset} ({mean.num_pictures} pictures)\n\n{_markdown_table('image', pictures)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def format_value(label: str, value: float) -> str:
    """Round as the field does: PSNR to 2 digits, SSIM to 4, others to 4."""
    return f"{value:.{_DIGITS.get(label.split('_')[0], 4)}f}"


def _markdown_table(first: str, lines: Sequence[tuple[str, Mapping[str, float], Mapping[str, float]]]) -> str:
    labels = list(dict.fromkeys(label for _, metrics, _ in lines for label in metrics))
    bicubic_labels = list(dict.fromkeys(label for _, _, bicubic in lines for label in bicubic))
    header = [first, *labels, *(f"bicubic {label}" for label in bicubic_labels)]
    table = [header, ["---"] * len(header)]
    for name, metrics, bicubic in lines:
        values = [(label, metrics.get(label)) for label in labels]
        values += [(label, bicubic.get(label)) for label in bicubic_labels]
        table.append([name, *("" if value is None else format_value(label, value) for label, value in values)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average each label over the pictures that have a value; NaN where none has."""
    labels = dict.fromkeys(label for each in values for label in each)
    means = {}
    for label in labels:
        present = [each[label] for each in values if label in each and not math.isnan(each[label])]
        means[label] = sum(present) / len(present) if present else math.nan
    return means


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
