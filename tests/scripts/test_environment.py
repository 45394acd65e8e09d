"""The environment that scripts choose: one without pip, as uv makes them, is completed and never removed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "_environment.sh"
pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or sys.version_info >= (3, 13), reason="needs bash and a Python that BasicSR builds on"
)


@pytest.fixture
def choose(tmp_path):
    """Return a function: active environment or None -> what choose_environment in a copy of the project ended with."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")

    def run(active: Path | None = None) -> subprocess.CompletedProcess:
        environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
        if active:
            environment["VIRTUAL_ENV"] = str(active)
        command = 'set -euo pipefail; source scripts/_environment.sh; choose_environment; "$PYTHON" -c "import pip"'
        return subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


def make_environment(folder: Path) -> Path:
    """Make an environment without pip, with a file of the user's in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (folder / "mine").write_text("")
    return folder


@pytest.mark.slow
def test_environment_without_pip_gets_it_and_stays(choose, tmp_path):
    folder = make_environment(tmp_path / ".venv")
    result = choose()
    assert result.returncode == 0, result.stderr
    assert (folder / "mine").exists()


@pytest.mark.parametrize("name", [".venv", "active"])
def test_environment_that_cannot_get_pip_is_left_alone_and_named(choose, tmp_path, name):
    folder = make_environment(tmp_path / name)
    python = folder / "bin" / "python"
    python.unlink()
    python.write_text('#!/bin/sh\ncase "$2" in *version_info*) exit 0;; *) exit 1;; esac\n')
    python.chmod(0o755)
    result = choose(folder if name == "active" else None)
    assert result.returncode == 1
    assert f"error: {folder} has no pip" in result.stderr
    assert (folder / "mine").exists()


def test_broken_environment_is_left_alone_and_said_so(choose, tmp_path):
    folder = make_environment(tmp_path / ".venv")
    for path in (folder / "bin").glob("python*"):
        path.unlink()
    result = choose()
    assert result.returncode == 1
    assert f"{folder} has no Python 3.10 to 3.12 that runs: move it away" in result.stderr
    assert (folder / "mine").exists()
