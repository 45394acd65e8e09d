"""`hriusr list` and `hriusr profile`: what they print is what the networks are, and mistakes are answered."""

import json

import pytest
from typer.testing import CliRunner

from hriusr.analysis.complexity import count_multi_adds
from hriusr.archs.registry import build_network, known_networks
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.cli import app


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def run_json(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_list_prints_every_row_whole():
    lines = run("list").stdout.splitlines()
    for name, variant in VARIANTS.items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        parts = (variant.type, f"x{variant.arguments['upscale']} ", f"{variant.parameters:,}")
        assert all(part in line for part in (*parts, f"{variant.multi_adds:,.1f} G", variant.source))


def test_list_prints_every_architecture():
    text = run("list").stdout
    assert all(name in text for name in known_networks())


def test_words_filter_by_name_and_architecture():
    names = [row["name"] for row in run_json("list", "SWINIR", "x4")["sizes"]]
    assert names == [name for name in VARIANTS if "swinir" in name and name.endswith("x4")]
    assert run_json("list", "edsr") == {"sizes": [], "architectures": ["EDSR"]}


def test_json_row_builds_its_network():
    (row,) = run_json("list", "hriusr_tiny_x2")["sizes"]
    network = build_network(row["network_g"])
    assert (row["type"], row["scale"]) == (type(network).__name__, network.upscale)
    assert row["parameters"] == sum(parameter.numel() for parameter in network.parameters())


def test_word_that_nothing_has_is_an_error():
    result = run("list", "nosuchnetwork")
    assert result.exit_code == 2
    assert "nosuchnetwork" in result.stderr


def test_profile_of_a_named_size():
    network = build_network(VARIANTS["hat_tiny_x2"].network_opt())
    costs = run_json("profile", "hat_tiny_x2", "--size", "12x20", "--runs", "3", "--threads", "1", "--train")
    assert costs["parameters"] == VARIANTS["hat_tiny_x2"].parameters
    assert costs["multi_adds_1280x720"] / 1e9 == pytest.approx(VARIANTS["hat_tiny_x2"].multi_adds, abs=0.05)
    assert costs["multi_adds"] == count_multi_adds(network, 12, 20)
    assert (costs["size"], costs["threads"], costs["precision"]) == ([12, 20], 1, "fp32")
    for kind in ("forward", "train"):
        assert len(costs[kind]["seconds"]) == 3
        assert min(costs[kind]["seconds"]) <= costs[kind]["median_seconds"] <= max(costs[kind]["seconds"])
    assert costs["train"]["median_seconds"] > costs["forward"]["median_seconds"]


def test_profile_of_a_weights_file_and_of_an_option_file_without_its_data(tmp_path):
    variant = VARIANTS["swinir_tiny_x2"]
    save_weights(tmp_path / "net.safetensors", build_network(variant.network_opt()), variant.network_opt())
    (tmp_path / "net.yml").write_text(
        json.dumps({"network_g": variant.network_opt(), "datasets": {"train": {"dataroot_gt": "not/there"}}})
    )
    for file in ("net.safetensors", "net.yml"):
        result = run("profile", str(tmp_path / file), "--size", "8x8", "--runs", "1", "--precision", "bf16")
        assert result.exit_code == 0, result.output
        assert "SwinIR x2" in result.stdout
        assert f"{variant.parameters:,}" in result.stdout
        assert "8 x 8" in result.stdout
        assert "bf16" in result.stdout


def test_profile_of_a_network_of_basicsr(tmp_path):
    (tmp_path / "net.yml").write_text("network_g: {type: MSRResNet, num_feat: 4, num_block: 1, upscale: 2}")
    costs = run_json("profile", str(tmp_path / "net.yml"), "--size", "8x8", "--runs", "1")
    assert costs["parameters"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hat_s_x44"], "hat_s_x44 is neither a file nor a named size; did you mean 'hat_s_x4'?"),
        (["zzz"], "hriusr list shows all"),
        (["nosuch.pth"], "nosuch.pth: not there"),
        (["nosuch.yml"], "nosuch.yml does not exist"),
        (["hat_tiny_x2", "--size", "64"], "--size 64: must be rows x columns"),
        (["hat_tiny_x2", "--size", "0x8"], "--size 0x8"),
        (["hat_tiny_x2", "--device", "tpu"], "--device tpu"),
    ],
)
def test_mistake_is_one_line_and_status_2(arguments, message):
    result = run("profile", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("text", ["network_g: 3", "name: x", "network_g: {type: HATT}"])
def test_option_file_without_a_network_is_named(text, tmp_path):
    (tmp_path / "net.yml").write_text(text)
    result = run("profile", str(tmp_path / "net.yml"))
    assert result.exit_code == 2
    assert "network_g" in result.stderr
