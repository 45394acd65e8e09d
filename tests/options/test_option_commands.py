"""`hriusr options`, and how train, test and doctor take an option file, with what is really registered."""

import pytest
import torch
from option_texts import TRAIN_TEXT, line_of
from typer.testing import CliRunner

from hriusr.cli import app
from hriusr.errors import HriusrError

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


@pytest.mark.parametrize("command", ["train", "test", "doctor", "options check", "options show"])
@pytest.mark.parametrize(
    "words",
    [
        "small.yml --force_yml a=1 b:c=[1,2]",
        "small.yml --force_yml a=1 --force_yml b:c=[1,2]",
        "-opt small.yml --force_yml a=1 b:c=[1,2]",
        "--force_yml a=1 b:c=[1,2] --opt=small.yml",
        "--force_yml a=1 b:c=[1,2] small.yml",
    ],
)
def test_commands_take_the_command_line_of_the_scripts(command, words, monkeypatch):
    seen = {}

    def note(option_file, **arguments):
        seen.update(arguments, file=str(option_file))
        raise HriusrError("seen")

    monkeypatch.setattr("hriusr.cli.commands.run_option_file", note)
    for module in ("options", "doctor"):
        monkeypatch.setattr(f"hriusr.cli.{module}.load_checked_options", note)
    result = run_cli(*command.split(), *words.split())
    assert seen, result.output
    assert (seen["file"], list(seen["overrides"])) == ("small.yml", ["a=1", "b:c=[1,2]"])


def test_test_takes_every_flag_of_its_script(monkeypatch):
    seen = {}
    monkeypatch.setattr("hriusr.cli.commands.run_option_file", lambda file, **arguments: seen.update(arguments))
    result = run_cli("test", "a.yml", "--auto_resume", "--debug", "--launcher", "pytorch")
    assert result.exit_code == 0, result.output
    assert seen == {"is_train": False, "overrides": (), "launcher": "pytorch", "auto_resume": True, "debug": True}


@pytest.mark.parametrize("words", ["", "a.yml b.yml", "a.yml --force_yml", "a.yml --force_yml a=1 b.yml", "-opt"])
def test_command_line_without_sense_is_refused(words):
    result = run_cli("train", *words.split())
    assert result.exit_code == 2
    assert not isinstance(result.exception, TypeError)
    assert "Traceback" not in result.output


def test_schema_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "file").write_text("no folder")
    result = run_cli("options", "schema", "-o", str(tmp_path / "file" / "schema.json"))
    assert result.exit_code == 2, result.output
    assert "error: cannot write" in result.output
    result = run_cli("options", "schema", "-o", str(tmp_path / "new" / "schema.json"))
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["schema.json"]


def test_degrade_takes_opt_as_the_others_do(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "hriusr.engine.degradation_preview.preview_degradations",
        lambda picture, output, **arguments: seen.update(arguments, output=output) or (),
    )
    result = run_cli("degrade", "a.png", "-o", "folder", "-opt", "real.yml")
    assert result.exit_code == 0, result.output
    assert (str(seen["output"]), str(seen["option_file"])) == ("folder", "real.yml")
