"""`base:` and --force_yml: what is overlaid, what is replaced, and which line is at fault then."""

import re

import pytest
from option_texts import LOOKUPS, TRAIN_TEXT, line_of

from hriusr.errors import OptionsError
from hriusr.options import load_options


@pytest.fixture
def load_child(workplace):
    """Return a function: (child's text, other files) -> Options of conf/child.yml."""
    (workplace / "conf").mkdir()

    def load_text(child: str, **others: str):
        for name, text in {"parent": TRAIN_TEXT, "child": child, **others}.items():
            (workplace / "conf" / f"{name}.yml").write_text(text)
        return load_options("conf/child.yml", is_train=True, **LOOKUPS)

    return load_text


def test_child_overlays_mappings_and_replaces_lists(load_child):
    options = load_child("base: parent.yml\ntrain:\n  scheduler:\n    milestones: [9]\n  optim_g:\n    lr: 1e-3\n")
    assert options.train.scheduler.milestones == [9]
    assert options.train.scheduler.gamma == 0.5
    assert options.train.optim_g.lr == 1e-3
    assert options.train.optim_g.betas == [0.9, 0.99]


def test_name_is_not_inherited(load_child):
    assert load_child("base: parent.yml\n").name == "child"
    assert load_child("base: parent.yml\nname: other\n").name == "other"


def test_later_base_wins_and_the_child_over_both(load_child):
    options = load_child(
        "base: [parent.yml, speed.yml]\nlogger: {print_freq: 3}\n",
        speed="logger: {print_freq: 2, save_checkpoint_freq: 7}\nmanual_seed: 5\n",
    )
    assert (options.logger.print_freq, options.logger.save_checkpoint_freq, options.manual_seed) == (3, 7, 5)


def test_bases_may_have_bases(load_child):
    options = load_child("base: middle.yml\nmanual_seed: 9\n", middle="base: parent.yml\nscale: 2\nmanual_seed: 8\n")
    assert (options.manual_seed, options.scale, options.train.total_iter) == (9, 2, 100)


def test_base_is_relative_to_its_file_and_dataroots_to_the_current_folder(load_child):
    options = load_child("base: parent.yml\n")
    assert options.datasets["train"].dataroot_gt == "data/hr", "found, since data/ is in the current folder"


def test_tilde_unsets(load_child):
    options = load_child("base: parent.yml\ndatasets:\n  val: ~\nval: ~\n")
    assert list(options.datasets) == ["train"]
    assert options.val is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("precision", "bf16"),
        ("path", "{strict_load_g: false}"),
        ("path:strict_load_g", "false"),
        ("train:max_nonfinite_steps", "3"),
        ("dist_params:timeout", "9"),
        ("train:optim_g:lr_mult:body.*", "0.5"),
        ("logger:num_val_images", "5"),
        ("datasets:train:filename_tmpl", "{}x4"),
        ("datasets:train:io_backend", "{type: lmdb}"),
        ("datasets:val:io_backend:type", "lmdb"),
        ("datasets:train:progressive", "[{iter: 5, gt_size: 32}]"),
        ("train:losses:structure", "{type: MSELoss}"),
        ("network_g:img_size", "7"),
        ("val:metrics:ssim", "{type: calculate_ssim}"),
    ],
)
def test_unset_key_is_as_one_that_was_never_set(load, key, value):
    without = load().model_dump(exclude_none=True)
    unset = load(overrides=[f"{key}={value}", f"{key}=~"]).model_dump(exclude_none=True)
    if "lr_mult" in key:
        assert unset["train"]["optim_g"].pop("lr_mult") == {}
    if "losses" in key:
        assert unset["train"].pop("losses") == {}
    assert unset == without


def test_unset_items_of_lists_count_too(load):
    stages = "datasets:train:progressive=[{iter: 5, gt_size: 32, batch_size: ~}]"
    (stage,) = load(overrides=[stages]).datasets["train"].progressive
    assert (stage.gt_size, stage.batch_size) == (32, None)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train:total_iter=~", "train.total_iter is missing"),
        ("train:total_itr=~", "unknown key 'total_itr' in train; did you mean 'total_iter'?"),
        ("network_g:width=~", "network PlainNet has no argument 'width'"),
    ],
)
def test_unset_key_that_is_needed_or_unknown_is_named(load, override, words):
    with pytest.raises(OptionsError, match=re.escape(words)):
        load(overrides=[override])


def test_other_type_takes_no_arguments_from_the_base(load_child):
    options = load_child("base: parent.yml\ntrain:\n  scheduler:\n    type: CosineAnnealingLR\n    eta_min: 1e-7\n")
    assert options.train.scheduler.milestones is None


def test_circle_is_refused(load_child):
    with pytest.raises(
        OptionsError, match=r"conf/other.yml:2: base goes in a circle: child.yml -> other.yml -> child.yml"
    ):
        load_child("base: other.yml\n", other="\nbase: child.yml\n")
    with pytest.raises(OptionsError, match=r"conf/child.yml:3: base goes in a circle: child.yml -> child.yml"):
        load_child("base:\n  - parent.yml\n  - child.yml\n")


def test_base_that_is_not_there(load_child):
    with pytest.raises(OptionsError, match=r"conf/child.yml:2: base 'parents.yml' does not exist"):
        load_child("manual_seed: 1\nbase: parents.yml\n")
    with pytest.raises(OptionsError, match=r"base \(=3\) must be a file or a list of files"):
        load_child("base: 3\n")


def test_lines_point_into_the_file_that_holds_the_value(load_child):
    wrong_parent = TRAIN_TEXT.replace("print_freq: 10", "print_frq: 10").replace("gt_size: 48", "gt_size: 49")
    with pytest.raises(OptionsError) as caught:
        load_child("base: parent.yml\n\nnetwork_g:\n  depth: [1]\n", parent=wrong_parent)
    lines = str(caught.value).split("\n  ")[1:]
    assert lines[0].startswith("conf/child.yml:4: network PlainNet has no argument 'depth'; did you mean 'depths'?")
    assert lines[1].startswith(f"conf/parent.yml:{line_of('gt_size')}: datasets.train.gt_size (=49)")
    assert lines[2].startswith(f"conf/parent.yml:{line_of('print_freq')}: unknown key 'print_frq'")


def test_override_that_mends_the_parents_mistake_counts(load_child):
    options = load_child("base: parent.yml\nscale: 2\n", parent=TRAIN_TEXT.replace("scale: 2", "scale: 3", 1))
    assert options.scale == 2


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train:total_iter=5e3", lambda options: options.train.total_iter == 5000),
        ("train:total_iter=!!float 5e3", lambda options: options.train.total_iter == 5000),
        ("train:ema_decay=0.99", lambda options: options.train.ema_decay == 0.99),
        ("train:scheduler:milestones=[1, 2]", lambda options: options.train.scheduler.milestones == [1, 2]),
        ("train:scheduler:milestones:0=7", lambda options: options.train.scheduler.milestones == [7, 80]),
        ("val:suffix=~", lambda options: options.val.suffix is None),
        ("val:suffix=x=y", lambda options: options.val.suffix == "x=y"),
        ("datasets:train:filename_tmpl={}x4", lambda options: options.datasets["train"].filename_tmpl == "{}x4"),
        ("datasets:train:filename_tmpl={}", lambda options: options.datasets["train"].filename_tmpl == "{}"),
        ("datasets:train:filename_tmpl='x{}'", lambda options: options.datasets["train"].filename_tmpl == "x{}"),
        ("val:suffix=12", lambda options: options.val.suffix == "12"),
        ("val:save_img=True", lambda options: options.val.save_img is True),
        ("tile:tile_size=64", lambda options: options.tile.tile_size == 64),
        ("network_g:img_size=1", lambda options: options.network_g.img_size == 1),
        ("name=__import__('os')", lambda options: options.name == "__import__('os')"),
    ],
)
def test_override(load, override, read):
    assert read(load(overrides=[override]))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "train:total_itr=5",
            "--force_yml train:total_itr=5: unknown key 'total_itr' in train; did you mean 'total_iter'?",
        ),
        ("network_g:width=5", "--force_yml network_g:width=5: network PlainNet has no argument 'width'"),
        ("train:total_iter=many", "train.total_iter (='many'): must be a whole number"),
        ("train:total_iter=4:5", "train.total_iter (='4:5'): must be a whole number"),
        ("train.total_iter=5", "keys are set apart by colons; write train:total_iter=5"),
        ("base=x.yml", "--force_yml base=x.yml: bases are read before this; write `base:` in the option file"),
        ("name=\x07", "'\\x07' is no YAML value: special characters are not allowed"),
        ("val:suffix=a/b", "val.suffix (='a/b'): must be part of a file name"),
        ("train:total_iter", "write it as section:key=value"),
        ("=5", "write it as section:key=value"),
        ("scale:x=5", "'x' leads nowhere, what is left of it is 2"),
        ("train:total_iter=[5", "'[5' is no YAML value"),
        ("train:scheduler:milestones:9=7", "'9' leads nowhere"),
        ("manual_seed=!!python/name:os.system", "is no YAML value"),
    ],
)
def test_wrong_override_is_named(load, override, expected):
    with pytest.raises(OptionsError) as caught:
        load(overrides=[override])
    assert expected in str(caught.value)
