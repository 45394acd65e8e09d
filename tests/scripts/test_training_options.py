"""scripts/benchmarks/training_options.py measures options that exist, and the plain setting has none of them."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "training_options.py"
pytest.importorskip("skimage")
spec = importlib.util.spec_from_file_location("training_options", SCRIPT)
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.mark.parametrize("name", [name for name in benchmark.SETTINGS if name != "plain"])
def test_setting_changes_what_is_run_and_nothing_is_ignored(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("gt", "lq", "jpeg", "gt.lmdb", "lq.lmdb"):
        Path(folder).mkdir()
    plain, changed = (benchmark.options_of(each, "cpu") for each in ("plain", name))
    ignored = [warning for warning in changed.run.warnings if "the run is on the CPU" not in warning]
    assert ignored == list(plain.run.warnings)
    assert changed.model_dump(exclude={"name"}) != plain.model_dump(exclude={"name"})
