"""What a run was computed with: versions, commit, hardware."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from hriusr import __version__

_LARGEST_PATCH = 10_000_000  # bytes
_PACKAGES = ("torch", "torchvision", "basicsr", "numpy", "opencv-python", "safetensors", "pydantic")


def collect_versions() -> dict[str, str]:
    """Return names and versions; what is not there is left out."""
    versions = {"hriusr": __version__, "python": platform.python_version()}
    commit = _git_commit(Path(__file__).parent)
    if commit:
        versions["commit"] = commit
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    versions["system"] = platform.platform()
    versions["cpu"] = f"{_cpu_name()}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        versions["gpu"] = torch.cuda.get_device_name()
        versions["cuda"] = str(torch.version.cuda)
    return versions


def uncommitted_changes() -> bytes | None:
    """Return how tracked files of the checkout differ from its commit, for `git apply`; None where they do not."""
    folder = Path(__file__).parent
    if not (_git_commit(folder) or "").endswith("+"):
        return None
    try:
        command = ["git", "diff", "--binary", "HEAD"]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if 0 < len(done.stdout) < _LARGEST_PATCH else None


def _git_commit(folder: Path) -> str | None:
    """Return the commit of a checkout, with + where files differ from it; None outside of one."""
    try:
        description = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        tracked = subprocess.run(
            ["git", "ls-files", "--error-unmatch", "versions.py"], cwd=folder, capture_output=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # installed into some other project's checkout, git would tell that project's commit
    return description.stdout.strip() if tracked.returncode == 0 else None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
