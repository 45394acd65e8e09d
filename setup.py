"""Package definition: `pip install .`, or scripts/quickstart.sh, which builds BasicSR without a second torch."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def requirements() -> list[str]:
    """Read requirements.txt without its comments."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


setup(
    name="hriusr",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "hriusr" / "__init__.py").read_text(encoding="utf-8")).group(1),
    description="Super-resolution with hyperbolic relative imprinting units: train, test, upscale",
    packages=[*find_packages(include=["hriusr", "hriusr.*"]), "hriusr.pretrained_models"],
    package_dir={"hriusr.pretrained_models": "experiments/pretrained_models"},
    package_data={"hriusr": ["py.typed"], "hriusr.pretrained_models": ["*.safetensors", "README.md", "SHA256SUMS"]},
    python_requires=">=3.10,<3.13",  # BasicSR 1.4.2 cannot be built on 3.13
    install_requires=requirements(),
    extras_require={
        "onnx": ["onnx>=1.16", "onnxscript>=0.3", "onnxruntime>=1.18"],  # hriusr export, hriusr upscale --backend onnx
        "optimizers": ["timm>=1.0", "schedulefree>=1.3"],  # Adan and Lion; AdamWScheduleFree
        "spandrel": ["spandrel>=0.4"],  # hriusr.spandrel_plugin
        "study": ["matplotlib>=3.8"],  # plots and crops of scripts/study
        "video": ["av>=14"],  # videos for `hriusr upscale`
        "test": [
            "av>=14",
            "pytest>=8",
            "pytest-xdist>=3",  # scripts/test.sh runs two processes
            "ruff>=0.6",
            "spandrel>=0.4",
            "timm>=1.0",
            "schedulefree>=1.3",
            "tifffile>=2023.7",  # what our TIFFs are compared with
            "onnx>=1.16",
            "onnxscript>=0.3",
            "onnxruntime>=1.18",
            "pytorch-msssim>=1.0",  # what our SSIM losses are compared with
        ],
        "wandb": ["wandb>=0.16"],
    },
    entry_points={"console_scripts": ["hriusr = hriusr.cli:main"]},
)
