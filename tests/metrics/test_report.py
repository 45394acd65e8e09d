"""Reports."""

import csv
import io
import json
import math

import pytest

from hriusr.metrics.report import (
    PictureRow,
    csv_report,
    dataset_means,
    json_report,
    markdown_report,
    write_report,
)

ROWS = [
    PictureRow("Set5", "baby", 512, 512, {"psnr_y": 38.0, "ssim_y": 0.96}, {"psnr_y": 37.0, "ssim_y": 0.95}, 0.5),
    PictureRow("Set5", "bird", 288, 288, {"psnr_y": 41.0, "ssim_y": 0.98}, {"psnr_y": 36.0, "ssim_y": 0.97}, 0.25),
    PictureRow("own", "holiday", 100, 200),
]
PROTOCOL = {"crop_border": 2, "weights": "net_g_500.pth"}


def test_mean_is_over_pictures_of_a_dataset():
    first, second = dataset_means(ROWS)
    assert (first.dataset, first.num_pictures) == ("Set5", 2)
    assert first.metrics == pytest.approx({"psnr_y": 39.5, "ssim_y": 0.97})
    assert first.bicubic == pytest.approx({"psnr_y": 36.5, "ssim_y": 0.96})
    assert (second.dataset, second.metrics) == ("own", {})


def test_csv_has_a_line_a_picture_and_a_mean():
    lines = list(csv.DictReader(io.StringIO(csv_report(ROWS))))
    assert [line["image"] for line in lines] == ["baby", "bird", "holiday", "mean", "mean"]
    assert float(lines[0]["psnr_y"]) == 38.0
    assert float(lines[3]["bicubic_psnr_y"]) == 36.5
    assert lines[2]["psnr_y"] == ""


def test_json_keeps_protocol_and_full_precision():
    content = json.loads(json_report([PictureRow("a", "b", 1, 1, {"psnr_y": 1 / 3})], PROTOCOL))
    assert content["protocol"] == PROTOCOL
    assert content["pictures"][0]["psnr_y"] == 1 / 3


def test_infinite_and_unknown_values_are_valid_json():
    text = json_report([PictureRow("a", "b", 1, 1, {"psnr_y": math.inf, "ssim_y": math.nan})], {})
    assert json.loads(text)["pictures"][0] | {"psnr_y": "inf", "ssim_y": None} == json.loads(text)["pictures"][0]


def test_markdown_shows_means_beside_bicubic():
    text = markdown_report(ROWS, PROTOCOL)
    assert "| dataset | psnr_y | ssim_y | bicubic psnr_y | bicubic ssim_y |" in text
    assert "| Set5 | 39.50 | 0.9700 | 36.50 | 0.9600 |" in text
    assert "| baby | 38.00 | 0.9600 | 37.00 | 0.9500 |" in text
    assert "- crop_border: 2" in text


def test_report_is_written_in_three_forms(tmp_path):
    paths = write_report(tmp_path / "results", ROWS, PROTOCOL)
    assert [path.name for path in paths] == ["report.csv", "report.json", "report.md"]
    assert all(path.stat().st_size > 100 for path in paths)
