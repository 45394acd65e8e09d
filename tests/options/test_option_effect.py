"""No option without a reader: each key of the schema is a word in the code that runs, outside hriusr/options."""

import ast
from pathlib import Path

from hriusr.options.problems import all_keys
from hriusr.options.schema import Options

PACKAGE = Path(__file__).resolve().parents[2] / "hriusr"
# arguments of torch's optimisers and of BasicSR's losses, handed on as they are; `base` is read while files are merged;
# dist_params matters only with --launcher, which the training loop refuses
OF_OPTIMIZERS = {"alpha", "centered", "dampening", "decoupled_weight_decay", "momentum_decay", "no_prox"}
# high_order_degradation is compared with the type of the training set while options are checked
READ_ELSEWHERE = {
    "high_order_degradation",
    "lr",
    "weight_decay",
    "eps",
    "amsgrad",
    "loss_weight",
    "base",
    "dist_params",
    "backend",
    "port",
}


def _words(tree: ast.Module):
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_every_option_is_read_somewhere():
    sources = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "options"]
    words = {word for path in sources for word in _words(ast.parse(path.read_text(encoding="utf-8")))}
    names = {key for path in all_keys(Options) for key in path if key != "*"}
    assert sorted(names - words - READ_ELSEWHERE - OF_OPTIMIZERS) == []
