"""The door to BasicSR: it opens on every torchvision, and names change hands on purpose."""

import subprocess
import sys
from pathlib import Path

import pytest

from hriusr.basicsr_bridge import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    REPLACED,
    Registry,
    register_package,
    replace_in,
)

REPOSITORY = Path(__file__).parents[1]


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_basicsr_imports_where_torchvision_lacks_functional_tensor():
    blocked = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision.transforms.functional_tensor":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Blocker())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.endswith("functional_tensor") else real(name, *a)
import hriusr.basicsr_bridge as bridge, torch
from basicsr.data.degradations import rgb_to_grayscale
print(tuple(rgb_to_grayscale(torch.rand(1, 3, 4, 4)).shape), len(list(bridge.ARCH_REGISTRY.keys())) > 20)
"""
    assert run_python(blocked) == "(1, 1, 4, 4) True"


def test_functional_tensor_of_an_older_torchvision_is_kept():
    older = """
import sys, types, importlib.machinery
name = "torchvision.transforms.functional_tensor"
module = types.ModuleType(name)
module.__spec__ = importlib.machinery.ModuleSpec(name, None)
module.rgb_to_grayscale = "of torchvision"
import torchvision.transforms
sys.modules[name] = module
import hriusr.basicsr_bridge
from basicsr.data import degradations
print(degradations.rgb_to_grayscale)
"""
    assert run_python(older) == "of torchvision"


def test_bridge_is_silent():
    code = "import warnings; warnings.simplefilter('error'); import hriusr.basicsr_bridge as b; b.register_package()"
    assert run_python(code) == ""


def test_package_itself_does_not_load_torch():
    assert run_python("import sys, hriusr; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        (ARCH_REGISTRY, {"EDSR", "MSRResNet", "SwinIR", "RRDBNet"}),
        (DATASET_REGISTRY, {"PairedImageDataset", "SingleImageDataset"}),
        (LOSS_REGISTRY, {"L1Loss", "MSELoss", "CharbonnierLoss", "PerceptualLoss"}),
        (METRIC_REGISTRY, {"calculate_psnr", "calculate_ssim", "calculate_niqe"}),
        (MODEL_REGISTRY, {"SRModel", "SwinIRModel", "HATModel", "RestorationModel"}),
    ],
)
def test_names_of_option_files_are_registered(registry, names):
    register_package()
    assert names <= set(registry.keys())


def test_names_taken_over_are_ours_and_the_old_ones_are_kept():
    register_package()
    taken = {("model", "SRModel"), ("model", "SwinIRModel"), ("metric", "calculate_ssim")}
    taken |= {("dataset", "PairedImageDataset"), ("dataset", "SingleImageDataset"), ("arch", "SwinIR")}
    assert taken <= set(REPLACED)
    registries = {r._name: r for r in (ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY)}
    for kind, name in REPLACED:
        assert REPLACED[kind, name].__module__.startswith("basicsr.")
        assert registries[kind].get(name).__module__.startswith("hriusr.")


def test_registering_again_changes_nothing():
    register_package()
    before = list(MODEL_REGISTRY), dict(REPLACED)
    register_package()
    assert (list(MODEL_REGISTRY), dict(REPLACED)) == before


def test_replacing_a_free_name_just_registers():
    registry = Registry("test_registry")

    @replace_in(registry, "Other")
    class Mine:
        pass

    assert registry.get("Other") is Mine
    assert ("test_registry", "Other") not in REPLACED


def test_only_the_bridge_imports_basicsr():
    for path in (REPOSITORY / "hriusr").rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        imports = [line for line in lines if line.strip().startswith(("import basicsr", "from basicsr"))]
        assert not imports or path.name == "basicsr_bridge.py", path
