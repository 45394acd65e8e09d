"""Entry points: they start fast, take BasicSR's flags, and end with one line and the right status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hriusr import entry
from hriusr.errors import HriusrError

ROOT = Path(__file__).resolve().parents[1]


def run_python(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HRIUSR_TRACEBACK")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, check=False
    )


def run_cli(*arguments: str):
    from hriusr.cli import app

    return CliRunner().invoke(app, list(arguments))


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from hriusr.cli import app; from typer.testing import CliRunner;"
        "result = CliRunner().invoke(app, ['--help']); assert 'train' in result.output;"
        "heavy = {'torch', 'basicsr', 'cv2', 'numpy', 'pydantic', 'yaml'} & set(sys.modules); assert not heavy, heavy"
    )
    result = run_python("-c", script)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", ["train", "test"])
def test_script_and_module_take_basicsrs_flags(command, tmp_path):
    for start in ([str(ROOT / "hriusr" / f"{command}.py")], ["-m", f"hriusr.{command}"]):
        result = run_python(*start, "--help", cwd=tmp_path if start[0] != "-m" else ROOT)
        assert result.returncode == 0, result.stderr
        for flag in ("-opt", "--launcher", "--auto_resume", "--debug", "--force_yml", "--local_rank"):
            assert flag in result.stdout


def test_package_runs_as_the_command():
    result = run_python("-m", "hriusr", "--help", cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert "upscale" in result.stdout


def test_script_does_not_leave_the_package_folder_on_the_path(tmp_path):
    package, script_file = str(ROOT / "hriusr"), str(ROOT / "hriusr" / "train.py")
    script = f"""
import runpy, sys
sys.argv = ["train.py", "-opt", "no.yml"]
sys.path[0] = {package!r}  # what Python does when it runs a file
try:
    runpy.run_path({script_file!r}, run_name="__main__")
except SystemExit as end:
    assert end.code == 2
assert sys.path[0] == {str(ROOT)!r} and {package!r} not in sys.path, sys.path
"""
    result = run_python("-c", script, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "error: option file no.yml does not exist\n"


def test_wrong_option_file_is_one_line_and_status_2(tmp_path):
    (tmp_path / "bad.yml").write_text("name: [a\n")
    result = run_python(str(ROOT / "hriusr" / "train.py"), "-opt", "bad.yml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: bad.yml:2: bad YAML")
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yml"], "nothing is written"


def test_traceback_on_request(tmp_path):
    result = run_python(str(ROOT / "hriusr" / "test.py"), "-opt", "no.yml", cwd=tmp_path, HRIUSR_TRACEBACK="1")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "OptionsError: option file no.yml does not exist" in result.stderr


def raising(error: BaseException):
    def work() -> None:
        raise error

    return work


def test_commands_ask_for_huge_pages_before_pytorch_takes_memory(monkeypatch):
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    seen = []
    assert entry.run_guarded(lambda: seen.append(os.environ["THP_MEM_ALLOC_ENABLE"])) == 0
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    assert entry.run_guarded(lambda: seen.append(os.environ["THP_MEM_ALLOC_ENABLE"])) == 0
    assert seen == ["1", "0"]


def test_endings(capsys, monkeypatch):
    monkeypatch.delenv("HRIUSR_TRACEBACK", raising=False)
    assert entry.run_guarded(lambda: None) == 0
    assert entry.run_guarded(raising(HriusrError("a (=1) is wrong; take 2"))) == 2
    assert capsys.readouterr().err == "error: a (=1) is wrong; take 2\n"
    assert entry.run_guarded(raising(KeyboardInterrupt())) == 130
    with pytest.raises(RuntimeError, match="a bug"):
        entry.run_guarded(raising(RuntimeError("a bug")))


def test_cli_ends_like_the_scripts():
    result = run_cli("train", "no.yml")
    assert result.exit_code == 2
    assert "error: option file no.yml does not exist" in result.output


def test_cli_passes_everything_on(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "hriusr.cli.commands.run_option_file", lambda file, **arguments: seen.update(file=file, **arguments)
    )
    result = run_cli("train", "a.yml", "--force_yml", "a=1", "--force_yml", "b:c=2", "--auto_resume", "--debug")
    assert result.exit_code == 0, result.output
    assert seen == {
        "file": Path("a.yml"),
        "is_train": True,
        "overrides": ["a=1", "b:c=2"],
        "launcher": "none",
        "auto_resume": True,
        "debug": True,
    }


def test_scripts_pass_everything_on(monkeypatch):
    seen = {}
    monkeypatch.setattr("hriusr.entry.run_option_file", lambda file, **arguments: seen.update(file=file, **arguments))
    from hriusr.test import main

    assert main(["-opt", "a.yml", "--launcher", "pytorch", "--force_yml", "a=1", "b=2", "--local-rank=1"]) == 0
    assert seen == {
        "file": Path("a.yml"),
        "is_train": False,
        "overrides": ["a=1", "b=2"],
        "launcher": "pytorch",
        "auto_resume": False,
        "debug": False,
    }


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory) -> Path:
    """Untrained weights of a very small network."""
    from hriusr.archs.registry import build_network
    from hriusr.archs.weights import save_weights

    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    network_opt = {"type": "MSRResNet", "num_feat": 4, "num_block": 1, "upscale": 2}
    save_weights(path, build_network(network_opt), network_opt)
    return path


def test_upscale_writes_a_picture_of_twice_the_size(tmp_path, tiny_weights, photo):
    from hriusr.data.image_io import read_image, write_image

    write_image(tmp_path / "cat.png", photo("chelsea")[:20, :30])
    result = run_cli("upscale", str(tmp_path / "cat.png"), "-w", str(tiny_weights), "-o", str(tmp_path / "big.png"))
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "big.png").shape == (40, 60, 3)


def test_upscale_that_failed_ends_with_2(tmp_path, tiny_weights):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    result = run_cli("upscale", str(tmp_path), "-w", str(tiny_weights), "-o", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "broken.png" in result.output
    assert "error: 1 of 1 picture(s) failed" in result.output
    assert not (tmp_path / "out" / "broken.png").exists()


@pytest.fixture(scope="module")
def foreign_weights(tmp_path_factory) -> Path:
    """Write a small SwinIR for grey pictures as its authors would: a state_dict under `params`, nothing else."""
    import torch

    from hriusr.archs.registry import build_network

    path = tmp_path_factory.mktemp("foreign") / "swinir_grey.pth"
    size = {"embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 4, "mlp_ratio": 2.0, "in_chans": 1}
    torch.save({"params": build_network({"type": "SwinIR", "upsampler": "", "upscale": 1, **size}).state_dict()}, path)
    return path


def test_upscale_takes_a_foreign_grey_network_of_scale_1(tmp_path, foreign_weights, photo):
    from hriusr.data.image_io import read_image, write_image

    write_image(tmp_path / "cat.png", photo("chelsea")[:20, :30])
    result = run_cli("upscale", str(tmp_path / "cat.png"), "-w", str(foreign_weights), "-o", str(tmp_path / "out.png"))
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "out.png").shape == (20, 30, 3)


def test_convert_says_what_it_found_and_upscale_takes_the_result(tmp_path, foreign_weights, photo):
    from hriusr.data.image_io import write_image

    target = tmp_path / "new.safetensors"
    result = run_cli("convert", str(foreign_weights), str(target), "--set", "img_range=2e0", "--precision", "bf16")
    assert result.exit_code == 0, result.output
    assert "SwinIR x1, 2,749 parameters, found from its tensors" in result.output
    assert "window_size=4" in result.output
    assert "img_range=2.0" in result.output
    assert "usual values" not in result.output  # img_range was set
    write_image(tmp_path / "cat.png", photo("chelsea")[:20, :30])
    assert (
        run_cli("upscale", str(tmp_path / "cat.png"), "-w", str(target), "-o", str(tmp_path / "o.png")).exit_code == 0
    )
    result = run_cli("convert", str(target))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "new.pth").exists()


@pytest.mark.parametrize("command", ["convert", "export"])
@pytest.mark.parametrize("name", [".", ""])
def test_a_folder_in_place_of_weights_is_refused_in_a_line(command, name):
    result = run_cli(command, name)
    assert result.exit_code == 2
    assert "a folder, not a weights file" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{in}", "{out}.pth", "--to", "safetensors"], "disagree"),
        (["{in}", "--set", "window_size"], "must be NAME=VALUE"),
        (["{in}", "{out}.pth", "--set", "windows=3"], "window_size"),
        (["{in}"], "exists: give --overwrite"),
    ],
    ids=["formats", "word", "name", "exists"],
)
def test_convert_refuses_in_a_line(tmp_path, foreign_weights, arguments, words):
    foreign_weights.with_suffix(".safetensors").touch()
    places = {"{in}": str(foreign_weights), "{out}": str(tmp_path / "out")}
    arguments = [word.replace("{in}", places["{in}"]).replace("{out}", places["{out}"]) for word in arguments]
    result = run_cli("convert", *arguments)
    assert result.exit_code == 2
    assert "error: " in result.output
    assert words in result.output


def test_main_job_from_pictures_to_report(tmp_path, monkeypatch, photo):
    """Train two steps, test and enlarge, by the shipped quickstart files with a smaller network and fewer pictures."""
    from hriusr.data.image_io import read_image, write_image

    monkeypatch.chdir(tmp_path)
    for part, name in (("train", "astronaut"), ("test", "chelsea")):
        write_image(Path("datasets/demo", part, "HR", f"{name}.png"), photo(name)[:96, :96])
        lr_folder = f"datasets/demo/{part}/LR_bicubic/X2"
        assert run_cli("prepare", "bicubic", f"datasets/demo/{part}/HR", lr_folder, "-s", "2").exit_code == 0
    smaller = ["network_g={type: MSRResNet, num_feat: 4, num_block: 1, upscale: 2}", "num_gpu=0"]
    steps = ["train:total_iter=2", "val:val_freq=2", "logger:use_tb_logger=false", "train:warmup_iter=-1"]
    overrides = [word for override in smaller for word in ("--force_yml", override)]
    result = run_cli(
        "train",
        str(ROOT / "options/train/quickstart_hriusr_x2.yml"),
        *overrides,
        *(word for override in steps for word in ("--force_yml", override)),
    )
    assert result.exit_code == 0, result.output
    weights = "experiments/quickstart_hriusr_x2/models/net_g_latest.pth"
    assert Path(weights).exists()
    result = run_cli("test", str(ROOT / "options/test/quickstart_hriusr_x2.yml"), *overrides)
    assert result.exit_code == 0, result.output
    assert "held_out" in result.output
    assert list(Path("results/quickstart_hriusr_x2").rglob("*.csv"))
    assert list(Path("results/quickstart_hriusr_x2").rglob("chelsea*.png"))
    result = run_cli("upscale", "datasets/demo/test/LR_bicubic/X2", "-w", weights, "-o", "big", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert read_image(next(Path("big").iterdir())).shape == (96, 96, 3)


def test_prepare_demo_and_a_folder_of_ones_own(tmp_path):
    result = run_cli("prepare", "demo", "--root", str(tmp_path / "demo"), "--scale", "3")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "demo/train/LR_bicubic/X3").glob("*x3.png"))) == 12
    held_out = str(tmp_path / "demo/test/HR")
    for arguments in (
        ["bicubic", held_out, str(tmp_path / "lr"), "-s", "4"],
        ["sub-images", held_out, "-o", str(tmp_path / "sub"), "--crop-size", "96", "--step", "96"],
        ["lmdb", str(tmp_path / "lr"), str(tmp_path / "lr.lmdb"), "--template", "{}x4"],
        ["meta-info", held_out, str(tmp_path / "meta.txt")],
    ):
        result = run_cli("prepare", *arguments)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "lr" / "coffeex4.png").is_file()
    assert (tmp_path / "meta.txt").read_text().startswith("chelsea.png (")
    result = run_cli("prepare", "bicubic", str(tmp_path / "nowhere"), str(tmp_path / "lr"), "-s", "2")
    assert result.exit_code == 2
    assert "error: " in result.output


def test_prepare_knows_the_presets_of_data():
    from hriusr.cli.prepare import PRESETS
    from hriusr.data import prepare_presets

    assert tuple(PRESETS) == prepare_presets.PRESETS
    result = run_cli("prepare", "set5", "--root", "no-such-folder")
    assert result.exit_code == 2
    assert "no pictures of Set5" in result.output


def test_schema_is_json(tmp_path):
    printed = run_cli("options", "schema")
    assert json.loads(printed.output)["title"] == "Options"
    target = tmp_path / "new" / "schema.json"
    assert run_cli("options", "schema", "-o", str(target)).exit_code == 0
    assert json.loads(target.read_text()) == json.loads(printed.output)


def test_version():
    assert run_cli("--version").output.startswith("hriusr 0.")
