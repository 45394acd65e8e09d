"""Loading one option file: types, defaults, BasicSR's form, names, seeds, debug mode."""

import logging
from pathlib import Path

import pytest
from option_texts import TEST_TEXT

from hriusr.errors import OptionsError
from hriusr.options import load_options


@pytest.mark.parametrize(
    ("written", "key", "value"),
    [
        ("lr: !!float 2e-4", "lr", 2e-4),
        ("lr: 2e-4", "lr", 2e-4),
        ("lr: '0.0002'", "lr", 2e-4),
        ("weight_decay: 1e-2", "weight_decay", 0.01),
        ("betas: [9e-1, 0.99]", "betas", [0.9, 0.99]),
    ],
)
def test_numbers_are_read_by_what_the_field_wants(load, written, key, value):
    old = {"lr": "lr: 2e-4", "weight_decay": "weight_decay: 0", "betas": "betas: [0.9, 0.99]"}[key]
    assert getattr(load((old, written)).train.optim_g, key) == value


@pytest.mark.parametrize("written", ["5e3", "!!float 5e3", "5000.0", "'5000'", "5000"])
def test_integers_may_be_written_as_floats(load, written):
    value = load(("val_freq: !!float 5e1", f"val_freq: {written}")).val.val_freq
    assert value == 5000
    assert isinstance(value, int)


def test_fraction_where_an_integer_is_wanted_is_refused(load):
    with pytest.raises(OptionsError, match=r"gt_size \(=48.5\).*integer|gt_size \(=48.5\).*whole"):
        load(("gt_size: 48", "gt_size: 48.5"))


def test_network_arguments_are_cast_by_the_signature(load):
    network = load(("depths: [2, 2]", "depths: [2, 2e0, !!float 3]\n  in_chans: 3.0")).network_g
    assert network.conv_scale == 0.01
    assert isinstance(network.in_chans, int)
    assert network.depths == [2, 2, 3]
    assert all(isinstance(depth, int) for depth in network.depths)


def test_train_options_in_basicsr_form(load, workplace):
    opt = load().to_basicsr_dict()
    assert opt["is_train"] is True
    assert (opt["dist"], opt["rank"], opt["world_size"], opt["auto_resume"]) == (False, 0, 1, False)
    assert opt["num_gpu"] == 0
    assert opt["root_path"] == str(workplace)
    experiment = workplace / "experiments" / "small"
    assert opt["path"]["experiments_root"] == opt["path"]["log"] == str(experiment)
    assert opt["path"]["models"] == str(experiment / "models")
    assert opt["path"]["training_states"] == str(experiment / "training_states")
    assert opt["path"]["visualization"] == str(experiment / "visualization")
    assert opt["path"]["pretrain_network_g"] is None
    assert opt["datasets"]["train"]["phase"] == "train"
    assert opt["datasets"]["val"]["phase"] == "val"
    assert opt["datasets"]["val"]["scale"] == 2
    assert "mean" not in opt["datasets"]["train"], "BasicSR asks whether the key is there"
    assert opt["train"]["optim_g"] == {"type": "Adam", "lr": 2e-4, "weight_decay": 0.0, "betas": [0.9, 0.99]}
    assert opt["train"]["scheduler"] == {"type": "MultiStepLR", "milestones": [50, 80], "gamma": 0.5}
    assert opt["network_g"] == {"type": "PlainNet", "upscale": 2, "depths": [2, 2], "conv_scale": 0.01}


def test_basicsr_form_is_new_each_time(load):
    options = load()
    options.to_basicsr_dict()["train"]["optim_g"].pop("type")
    assert options.to_basicsr_dict()["train"]["optim_g"]["type"] == "Adam"


def test_test_options_in_basicsr_form(load, workplace):
    opt = load(text=TEST_TEXT, is_train=False).to_basicsr_dict()
    results = workplace / "results" / "small_test"
    assert opt["path"]["results_root"] == str(results)
    assert opt["path"]["visualization"] == str(results / "visualization")
    assert "models" not in opt["path"]
    assert opt["tile"] == {"tile_size": 64, "tile_pad": 16, "batch_size": 1}
    assert opt["val"]["suffix"] is None
    assert [dataset["phase"] for dataset in opt["datasets"].values()] == ["test", "test"]


def test_test_file_without_val_saves_pictures(load):
    text = TEST_TEXT[: TEST_TEXT.index("val:\n")]
    assert load(text=text, is_train=False).val.save_img is True
    assert load(("  save_img: false\n", "")).val.save_img is False


def test_file_without_name_is_named_after_itself(load):
    assert load(("name: small\n", "")).name == "small"


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "''", ".."])
def test_name_must_be_a_folder_name(load, name):
    with pytest.raises(OptionsError, match="names a folder"):
        load(("name: small", f"name: {name}"))


def test_seed_is_drawn_when_unset(load, caplog):
    caplog.set_level(logging.INFO)
    seed = load(("manual_seed: 3", "manual_seed: ~")).manual_seed
    assert 1 <= seed <= 10000
    assert str(seed) in caplog.text


def test_num_gpu_auto_becomes_a_number(load):
    assert isinstance(load(("num_gpu: 0", "num_gpu: auto")).num_gpu, int)


def test_missing_gpu_falls_back_with_a_warning(load, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    options = load(("num_gpu: 0", "num_gpu: 1"))
    assert options.num_gpu == 0
    assert "small.yml:4: num_gpu (=1): runs on the CPU" in options.run.warnings[0]


@pytest.mark.parametrize(("num_gpu", "on_gpu"), [("0", False), ("1", True), ("auto", True)])
def test_data_goes_to_the_gpu_only_where_one_is_used(load, monkeypatch, num_gpu, on_gpu):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    options = load(("num_gpu: 0", f"num_gpu: {num_gpu}"), ("prefetch_mode: ~", "prefetch_mode: cuda"))
    train_set = options.to_basicsr_dict()["datasets"]["train"]
    assert (train_set["pin_memory"], train_set.get("prefetch_mode")) == (on_gpu, "cuda" if on_gpu else None)
    assert ("prefetch_mode (='cuda') is ignored" in " ".join(options.run.warnings)) is not on_gpu


def test_debug_mode_is_basicsrs(load):
    options = load(debug=True)
    assert options.name == "debug_small"
    assert (options.val.val_freq, options.logger.print_freq, options.logger.save_checkpoint_freq) == (8, 1, 8)
    assert options.logger.use_tb_logger is False


def test_launcher_reads_rank_from_its_environment(load, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = load(launcher="pytorch").run
    assert (run.rank, run.world_size, run.is_distributed) == (1, 2, True)


def test_launcher_without_its_environment_says_what_to_start(load, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(OptionsError, match="RANK and WORLD_SIZE: start with torchrun"):
        load(launcher="pytorch")


def test_torchrun_without_launcher_is_refused(load, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OptionsError, match="add --launcher pytorch"):
        load()


def test_written_options_load_to_the_same(load, workplace):
    options = load()
    (workplace / "again.yml").write_text(options.to_yaml())
    again = load_options("again.yml", is_train=True)
    assert again.model_dump(mode="json") == options.model_dump(mode="json")


def test_written_options_say_what_was_ignored(load):
    assert (
        "# small.yml:21: ignored datasets.train.persistent_workers"
        in load(("prefetch_mode: ~", "persistent_workers: no")).to_yaml()
    )


def test_home_folder_is_expanded(load, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = load(("dataroot_gt: data/hr", "dataroot_gt: ~/data/hr"))
    assert options.datasets["train"].dataroot_gt == str(Path(tmp_path, "data/hr"))
