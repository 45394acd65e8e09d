"""The house rules that a reader of the source can check: who imports whom, and what nobody calls.

Read from the syntax tree, so that nothing is imported and a rule broken in a rarely used branch is found too.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hriusr"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# layer -> what it may import of ours, beside itself; a name with a dot is one module of another layer
LEAVES = {"errors", "atomic_file", "checked_file", "folder_lock"}
LAYERS = {
    "errors": set(),
    "atomic_file": {"errors"},
    "checked_file": {"atomic_file"},
    "folder_lock": {"errors"},
    "basicsr_bridge": {"errors"},
    "options": {"errors"},
    "blocks": set(),
    "data": {"basicsr_bridge", *LEAVES},
    "losses": {"basicsr_bridge", "data.image_io", *LEAVES},
    "metrics": {"basicsr_bridge", "data.image_io", *LEAVES},
    "archs": {"basicsr_bridge", "blocks", *LEAVES},
    "models": {"basicsr_bridge", "archs", "losses", "data.degradations", *LEAVES},
    "engine": {"basicsr_bridge", "options", "data", "archs", "losses", "models", "metrics", "upscaling", *LEAVES},
    "pictures": {"data.image_bytes", "data.image_io", "data.leftovers", *LEAVES},
    "upscaling": {"data", "pictures", "archs", "models", *LEAVES},
    "exporting": {"archs", "upscaling", *LEAVES},
    "doctor": {"options", "data", "models", "engine", "analysis.memory_use", "upscaling", "metrics", *LEAVES},
    "analysis": {"archs", "data", "models.precision", "upscaling", *LEAVES},
    "spandrel_plugin": {"archs", *LEAVES},
}
# `hriusr prepare` is a front of data.prepare, `hriusr list` and `convert` of archs; nothing else of those is for them
ENTRY_POINT_IMPORTS = {"options", "engine", "doctor", "pictures", "upscaling", "exporting", "analysis", "data", "archs"}
ENTRY_POINT_IMPORTS |= {"errors", "atomic_file"}
ENTRY_POINTS = {"cli", "train", "test", "entry", "__main__"}
# a file of one of these names would shadow the standard library in `python hriusr/train.py`
SHADOWING = {"types", "inspect", "logging", "copy", "queue", "profile", "platform", "signal", "random", "io", "json"}


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _layer(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted names a module imports, also inside functions; `from a import b` as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import on line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.fixture(params=SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def source(request) -> Path:
    return request.param


def test_imports_follow_the_layers(source):
    layer = _layer(source)
    if layer == "__init__":
        allowed = {"upscaling.library"}  # inside functions: that importing hriusr is light is another test
    elif layer in ENTRY_POINTS:
        allowed = ENTRY_POINT_IMPORTS | ENTRY_POINTS
    else:
        assert layer in LAYERS, f"{source.name}: say in LAYERS what the new layer {layer!r} may import"
        allowed = LAYERS[layer] | {layer}
    for name in _imports(_tree(source)):
        if not name.startswith("hriusr.") or name == "hriusr.__version__":
            continue
        ours = name.removeprefix("hriusr.")
        assert any(ours == item or ours.startswith(f"{item}.") for item in allowed), f"{layer} may not import {name}"


def test_only_the_bridge_imports_basicsr(source):
    if _layer(source) != "basicsr_bridge":
        assert not [name for name in _imports(_tree(source)) if name.split(".")[0] == "basicsr"]


def test_no_relative_imports(source):
    list(_imports(_tree(source)))


def test_nothing_prints(source):
    assert not [node.lineno for name, node in _calls(_tree(source)) if name == "print"]


def test_weights_are_loaded_without_running_code(source):
    for name, node in _calls(_tree(source)):
        if name == "torch.load":
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert keywords.get("weights_only") == "True", f"torch.load on line {node.lineno}"


def test_yaml_is_loaded_without_running_code(source):
    unsafe = ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load")
    assert not [node.lineno for name, node in _calls(_tree(source)) if name in unsafe]


def test_nothing_is_evaluated_or_unpickled(source):
    refused = ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "pickle.Unpickler")
    assert not [node.lineno for name, node in _calls(_tree(source)) if name in refused]


def test_blocks_import_only_torch_and_the_standard_library(source):
    if _layer(source) != "blocks":
        return
    foreign = {"numpy", "cv2", "scipy", "PIL", "skimage", "torchvision", "timm", "pydantic", "yaml"}
    assert not foreign & {name.split(".")[0] for name in _imports(_tree(source))}


def test_file_opens_with_a_docstring_and_stays_short(source):
    assert ast.get_docstring(_tree(source))
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_module_shadows_the_standard_library():
    assert not SHADOWING & {path.stem for path in PACKAGE.glob("*.py")}
