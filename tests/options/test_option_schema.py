"""The schema itself: every field is documented, and editors get all of it."""

from hriusr.options.foreign import IGNORED, RENAMED
from hriusr.options.json_schema import option_file_schema
from hriusr.options.schema import Options


def _sections(schema):
    yield schema
    yield from schema["$defs"].values()


def test_every_field_says_what_it_means():
    for section in _sections(option_file_schema()):
        for name, field in section["properties"].items():
            assert len(field.get("description", "")) > 10, f"{section['title']}.{name}"


def test_unknown_keys_are_wrong_in_editors_too():
    schema = option_file_schema()
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["DatasetOptions"]["additionalProperties"] is False
    assert schema["$defs"]["NetworkOptions"]["additionalProperties"] is True


def test_no_key_is_required_since_a_base_may_hold_it():
    for section in _sections(option_file_schema()):
        assert not isinstance(section.get("required"), list)


def test_editors_take_what_is_loaded_with_a_warning_or_unset():
    schema = option_file_schema()
    sections = {"datasets": "DatasetOptions", "path": "PathOptions", "train": "TrainOptions", "val": "ValOptions"}
    for pattern in (*IGNORED, *RENAMED):
        name, *_, key = pattern.split(".")
        assert schema["$defs"][sections[name]]["properties"][key]["deprecated"], pattern
    old_key = schema["$defs"]["DatasetOptions"]["properties"]["use_flip"]
    assert old_key["anyOf"] == [{"type": "boolean"}, {"type": "null"}]
    metrics = next(kind for kind in schema["$defs"]["ValOptions"]["properties"]["metrics"]["anyOf"] if len(kind) > 1)
    for mapping in (schema["properties"]["datasets"]["anyOf"][0], metrics):
        assert {"type": "null"} in mapping["additionalProperties"]["anyOf"]
    for section in _sections(schema):
        for name, field in section["properties"].items():
            assert field.get("deprecated") or {"type": "null"} in field["anyOf"], name


def test_options_pass_their_own_checks(load):
    options = load()
    assert Options.model_validate(options.model_dump()).model_dump() == options.model_dump()
