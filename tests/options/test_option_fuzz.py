"""Whatever stands at whatever key: options, or an error for the user; never a traceback."""

import contextlib
import copy
import logging

import pytest
import yaml
from option_texts import LOOKUPS, TEST_TEXT, TRAIN_TEXT

from hriusr.errors import OptionsError
from hriusr.options import load_options

VALUES = [None, "word", [None], {}, {"type": 5}, True, -1, 1.5, float("nan")]


def _paths(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from _paths(item, (*path, key))
    elif isinstance(value, list):
        yield from ((*path, index) for index in range(len(value)))


@pytest.mark.parametrize(("text", "is_train"), [(TRAIN_TEXT, True), (TEST_TEXT, False)], ids=["train", "test"])
def test_any_value_anywhere_is_taken_or_refused(text, is_train, workplace):
    logging.getLogger("hriusr.options").setLevel(logging.ERROR)
    clean = yaml.safe_load(text)
    for path in list(_paths(clean)):
        for value in VALUES:
            values = copy.deepcopy(clean)
            holder = values
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = value
            (workplace / "any.yml").write_text(yaml.dump(values, Dumper=yaml.CSafeDumper))
            with contextlib.suppress(OptionsError):
                options = load_options("any.yml", is_train=is_train, **LOOKUPS)
                options.to_basicsr_dict()
                options.to_yaml()
    logging.getLogger("hriusr.options").setLevel(logging.NOTSET)
