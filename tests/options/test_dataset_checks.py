"""Keys that a type of dataset does not read: refused where it matters, else said; values that ask for nothing pass."""

import pytest
from option_texts import TEST_TEXT

from hriusr.errors import OptionsError

LQ = "    dataroot_lq: data/lr\n"
REAL = (("model_type: SRModel", "model_type: RealESRNetModel"), ("type: PairedImage", "type: RealESRGAN"), (LQ, ""))
CLEAN = {"components": {}}  # the stand-ins lack what these tests name


def with_keys(*lines):
    """Return the replacement that adds lines to datasets.train."""
    return "    gt_size: 48\n", "".join(f"    {line}\n" for line in ("gt_size: 48", *lines))


@pytest.mark.parametrize("line", ["color: y", "mean: [0.5, 0.5, 0.5]", "std: [1, 1, 2]", "filename_tmpl: '{}x2'"])
def test_what_realesrgans_dataset_cannot_do_is_refused(load, line):
    key = line.split(":")[0]
    with pytest.raises(
        OptionsError, match=rf"small\.yml:\d+: datasets\.train\.{key} \(=.* has no effect.*leave it out"
    ):
        load(*REAL, with_keys(line), **CLEAN)


def test_values_that_ask_for_nothing_pass(load):
    lines = ["color: n", "mean: [0, 0, 0]", "std: [1., 1., 1.]", "filename_tmpl: '{}'", "skip_small: false"]
    assert load(*REAL, with_keys(*lines, "enlarge_small: false", "recursive: false"), **CLEAN).run.warnings == ()


@pytest.mark.parametrize("others", [(), ("skip_small: true",)])
def test_small_pictures_cannot_be_enlarged_beside_files_of_lq(load, others):
    with pytest.raises(
        OptionsError, match=r"enlarge_small does not reach .*'data/lr'.*leave dataroot_lq out, .*skip_small"
    ):
        load(with_keys("enlarge_small: true", *others))
    assert load((LQ, ""), with_keys("enlarge_small: true")).run.warnings == ()


@pytest.mark.parametrize(
    ("replacements", "words"),
    [
        (((LQ, ""), with_keys("enlarge_small: true", "skip_small: true")), "skip_small is ignored: small pictures are"),
        ((*REAL, with_keys("enlarge_small: true", "skip_small: true")), "skip_small is ignored: small pictures are"),
        ((("type: PairedImage", "type: ImageNetPaired"), with_keys("skip_small: true")), "skip_small is ignored"),
        ((with_keys("recursive: true", "meta_info_file: small.yml"),), "recursive is ignored: meta_info_file names"),
    ],
)
def test_what_has_no_effect_on_a_dataset_is_said(load, replacements, words):
    (warning,) = load(*replacements, **CLEAN).run.warnings
    assert f"datasets.train.{words}" in warning


@pytest.mark.parametrize("line", ["filename_tmpl: '{}x2'", "skip_small: true", "enlarge_small: true"])
def test_what_needs_gt_is_ignored_by_single_pictures(load, line):
    text = TEST_TEXT.replace(f"{LQ}network", f"{LQ}    recursive: true\n    {line}\nnetwork")
    warnings = " ".join(load(text=text, is_train=False, **CLEAN).run.warnings)
    assert f"datasets.test_2.{line.split(':')[0]} is ignored: SingleImageDataset has no gt" in warnings
    assert "recursive" not in warnings
