"""`hriusr options`, and how train, test and doctor take an option file, with what is really registered."""

import pytest
import torch
from option_texts import TRAIN_TEXT, line_of
from typer.testing import CliRunner

from hriusr.cli import app

SMALL = "type: HRIUSR\n  embed_dim: 8\n  num_heads: 2\n  window_size: 4\n  low_resolution_depth: 1"


@pytest.fixture
def write(workplace):
    """Return a function that writes small.yml with another network."""

    def write_text(network: str, text: str = TRAIN_TEXT) -> str:
        text = text.replace("type: PlainNet", network).replace("  conv_scale: 1e-2\n", "")
        (workplace / "small.yml").write_text(text, encoding="utf-8")
        return text

    return write_text


def run_cli(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("network", "depths", "expected"),
    [
        (SMALL, "2", "depths (=2) must be a list of whole numbers"),
        (SMALL, "[]", "depths"),
        (SMALL.replace("8", "-8"), "[2, 2]", "embed_dim (=-8) must be more than 0"),
        (SMALL.replace("8", "13").replace("2", "5"), "[2, 2]", "(=13) must be divisible by num_heads (=5)"),
        ("type: SwinIR\n  embed_dim: 12", "[1]", "num_heads"),
        ("type: EDSR\n  num_in_ch: 3\n  num_out_ch: 3\n  num_feat: -8", None, "network_g (EDSR"),
    ],
    ids=["no list", "empty", "negative", "not divisible", "lengths", "foreign"],
)
def test_check_builds_the_network(write, network, depths, expected):
    text = TRAIN_TEXT.replace("  depths: [2, 2]\n", f"  depths: {depths}\n" if depths else "")
    text = write(network, text)
    result = run_cli("options", "check", "small.yml")
    assert result.exit_code == 2, result.output
    assert expected in result.output
    lines = range(line_of("network_g:", text), line_of("path:", text))
    assert result.output.startswith(tuple(f"error: small.yml:{line}: " for line in lines)), result.output


@pytest.mark.parametrize(
    "network",
    [SMALL, "type: EDSR\n  num_in_ch: 3\n  num_out_ch: 3", "type: ECBSR\n  num_in_ch: 3\n  num_out_ch: 3"],
    ids=["ours", "BasicSR's", "one that looks into its weights"],
)
def test_check_takes_networks_that_can_be_built(write, network):
    text = TRAIN_TEXT if network is SMALL else TRAIN_TEXT.replace("  depths: [2, 2]\n", "")
    if "ECBSR" in network:
        network += "\n  num_block: 1\n  num_channel: 4\n  with_idt: false\n  act_type: relu"
        text = text.replace("  upscale: 2\n", "  scale: 2\n")
    write(network, text)
    before = torch.get_rng_state()
    result = run_cli("options", "check", "small.yml")
    assert result.exit_code == 0, result.output
    assert torch.equal(torch.get_rng_state(), before), "random numbers are those of a run without the check"
