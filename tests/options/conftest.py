"""Load variations of a small option file, in a folder that has what it names."""

import os
from pathlib import Path

import pytest
from option_texts import LOOKUPS, TRAIN_TEXT

from hriusr.options import load_options


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, with the dataset folders that TRAIN_TEXT names."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data/hr", "data/lr"):
        os.makedirs(folder)
    return tmp_path


@pytest.fixture
def load(workplace: Path):
    """Return a function: (text with (old, new) replaced, keyword arguments) -> Options."""

    def load_text(*replacements: tuple[str, str], text: str = TRAIN_TEXT, is_train: bool = True, **arguments):
        for old, new in replacements:
            assert old in text, f"{old!r} is not in the option file"
            text = text.replace(old, new, 1)
        (workplace / "small.yml").write_text(text, encoding="utf-8")
        return load_options("small.yml", is_train=is_train, **{**LOOKUPS, **arguments})

    return load_text
