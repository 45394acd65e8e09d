"""What a wrong option file says: the place, the thing, its value and the remedy; everything at once."""

import pytest
from option_texts import TEST_TEXT, TRAIN_TEXT, line_of

from hriusr.errors import OptionsError
from hriusr.options import load_options


def complaint(load, *replacements, **arguments) -> str:
    with pytest.raises(OptionsError) as caught:
        load(*replacements, **arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("gt_size: 48", "gt_sise: 48", "unknown key 'gt_sise' in datasets.train; did you mean 'gt_size'?"),
        ("  print_freq", "  print_frequency", "unknown key 'print_frequency' in logger; did you mean 'print_freq'?"),
        ("scale: 2\nnum", "scal: 2\nnum", "unknown key 'scal'; did you mean 'scale'?"),
        ("    lr: 2e-4", "    LR: 2e-4", "did you mean 'lr'?"),
        ("  total_iter", "  print_freq: 5\n  total_iter", "unknown key 'print_freq' in train; it belongs to logger"),
        ("type: disk", "typo: disk", "unknown key 'typo' in datasets.train.io_backend; did you mean 'type'?"),
        ("type: PlainNet", "type: PlanNet", "unknown network 'PlanNet'; did you mean 'PlainNet'?"),
        ("conv_scale: 1e-2", "conv_scal: 1e-2", "network PlainNet has no argument 'conv_scal'; did you mean"),
        ("conv_scale: 1e-2", "conv_scale: small", "network_g.conv_scale (='small') must be a number"),
        ("conv_scale: 1e-2", "in_chans: 3.5", "network_g.in_chans (=3.5) must be a whole number"),
        ("depths: [2, 2]", "depths: 2", "network_g.depths (=2) must be a list of whole numbers"),
        ("depths: [2, 2]", "depths: [2, x]", "network_g.depths (=[2, 'x']) must be a list of whole numbers"),
        ("conv_scale: 1e-2", "widths: [[2], 2]", "network_g.widths (=[[2], 2]) must be a list of lists of whole num"),
        ("conv_scale: 1e-2", "img_size: big", "network_g.img_size (='big') must be a whole number or a list of whole"),
        ("num_gpu: 0", "num_gpu: cpu", "num_gpu (='cpu'): must be auto (all visible GPUs), 0 (the CPU) or a number"),
        ("num_gpu: 0", "num_gpu: -1", "num_gpu (=-1): must be auto (all visible GPUs), 0 (the CPU) or a number"),
        ("num_gpu: 0", "num_gpu: [0]", "num_gpu (=[0]): must be auto (all visible GPUs), 0 (the CPU) or a number"),
        ("!!float 1e2", "4:05", "train.total_iter (='4:05'): must be a whole number"),
        ("model_type: SRModel", "model_type: SRModle", "unknown model_type 'SRModle'; did you mean 'SRModel'?"),
        ("model_type: SRModel", "model_type: ESRGANModel", "ESRGANModel is not supported: there is no relativistic"),
        ("type: PairedImage", "type: PairImage", "unknown dataset 'PairImageDataset'; did you mean 'PairedImageDat"),
        ("type: L1Loss", "type: L2Loss", "unknown loss 'L2Loss'; did you mean 'L1Loss'?"),
        (
            "type: L1Loss",
            "type: PerceptualLoss\n    layer_weights: {conv1_1: 1}",
            "train.pixel_opt.type: PerceptualLoss gives a perceptual and a style loss; write it under train.perceptual",
        ),
        (
            "  pixel_opt",
            "  perceptual_opt: {type: L1Loss}\n  pixel_opt",
            "train.perceptual_opt.type: L1Loss gives one number, not a perceptual and a style loss; write it under",
        ),
        ("reduction: mean", "epsilon: 1", "loss L1Loss has no argument 'epsilon'"),
        ("calculate_psnr", "calculate_psrn", "unknown metric 'calculate_psrn'; did you mean 'calculate_psnr'?"),
        ("manual_seed: 3", "manual_seed: -1", "manual_seed (=-1): must be greater than or equal to 0"),
        ("manual_seed: 3", f"manual_seed: {2**53}", f"manual_seed (={2**53}): must be less than {2**53}"),
        ("reduction: mean", "reduction: none", "train.pixel_opt.reduction (='none'): must be 'mean' or 'sum'"),
        ("better: higher", "better: bigger", "val.metrics.psnr.better (='bigger'): must be 'higher' or 'lower'"),
        ("type: Adam", "type: Adm", "train.optim_g.type (='Adm'): must be 'Adam', 'AdamW', 'Adamax'"),
        ("lr: 2e-4", "lr: -1", "train.optim_g.lr (=-1): must be greater than 0"),
        ("use_rot: true", "use_rot: maybe", "datasets.train.use_rot (='maybe'): must be true or false"),
        ("batch_size_per_gpu: 4", "batch_size_per_gpu: 0", "batch_size_per_gpu (=0): must be greater than 0"),
        ("num_worker_per_gpu: 2", "num_worker_per_gpu: -1", "(=-1): must be greater than or equal to 0"),
        ("milestones: [50, 80]", "milestones: [50, x]", "train.scheduler.milestones.1 (='x'): must be a whole number"),
        ("gamma: 0.5", "gamma: 0.5\n    periods: [5]", "train.scheduler.periods is no option of MultiStepLR"),
        ("gt_size: 48", "gt_size: 49", "gt_size (=49) is no multiple of scale (=2); take 48 or 50"),
        ("upscale: 2", "upscale: 4", "scale (=2) differs from network_g.upscale (=4); make them equal"),
        ("  upscale: 2\n", "", "scale (=2) differs from network_g.upscale (=4, PlainNet's default)"),
        ("milestones: [50, 80]", "milestones: []", "train.scheduler.milestones is empty: MultiStepLR needs it"),
        ("warmup_iter: -1", "warmup_iter: 101", "warmup_iter (=101) is more than total_iter (=100)"),
        ("  total_iter: !!float 1e2\n", "", "train.total_iter is missing: Training steps"),
        ("    batch_size_per_gpu: 4\n", "", "datasets.train.batch_size_per_gpu is missing"),
        ("    gt_size: 48\n", "", "datasets.train.gt_size is missing"),
        ("dataroot_gt: data/hr", "dataroot_gt: data/h", "datasets.train.dataroot_gt (='data/h') does not exist in"),
        (
            "held_out\n    type: PairedImageDataset\n    dataroot_gt: data/hr",
            "held_out\n    type: PairedImageDataset\n    dataroot_gt: data/h",
            "how to get the sets, --force_yml datasets:val=~ leaves this one out",
        ),
        ("    dataroot_gt: data/hr\n", "", "datasets.train.dataroot_gt is missing: PairedImageDataset reads it"),
        ("data/lr", "data/lr.lmdb", "(='data/lr.lmdb'): io_backend disk wants a folder of pictures"),
        (
            "    gt_size",
            "    lq_on_the_fly: true\n    gt_size",
            "lq_on_the_fly makes what dataroot_lq (='data/lr') holds",
        ),
        ("    gt_size", "    meta_info_file: m.txt\n    gt_size", "meta_info_file (='m.txt') does not exist"),
        ("name: held_out", "name: photos\n    num_frame: 5", "unknown key 'num_frame' in datasets.val"),
        ("pretrain_network_g: ~", "pretrain_network_g: no.pth", "path.pretrain_network_g (='no.pth') does not exist"),
        ("  val:\n    name", "  valid:\n    name", "datasets.valid: an entry is train, val, val_<x>, test or test_<x>"),
        ("crop_border: 2", "crop_border: -2", "val.metrics.psnr.crop_border (=-2): must be greater than or equal to 0"),
        ("name: small", "name: 001", "name (=1): must be text; put it into quotes"),
    ],
)
def test_mistake_is_named(load, old, new, expected):
    message = complaint(load, (old, new))
    assert expected in message
    assert "\n" not in message, "one mistake, one line"
    assert message.startswith("small.yml:")


def test_line_numbers_are_those_of_the_key(load):
    assert complaint(load, ("gt_size: 48", "gt_sise: 48")).startswith(f"small.yml:{line_of('gt_size')}: ")
    assert complaint(load, ("lr: 2e-4", "lr: fast")).startswith(f"small.yml:{line_of('lr: 2e-4')}: ")
    assert complaint(load, ("conv_scale", "conv_scal")).startswith(f"small.yml:{line_of('conv_scale')}: ")


def test_all_mistakes_are_listed_at_once_in_order(load):
    message = complaint(
        load,
        ("gt_size: 48", "gt_size: 49"),
        ("print_freq: 10", "print_frq: 10"),
        ("data/lr", "data/nowhere"),
        ("calculate_psnr", "calculate_pnsr"),
        ("  total_iter:", "  total_iters:"),
        ("milestones: [50, 80]", "milestones: []"),
    )
    heading, *lines = message.split("\n  ")
    assert heading == "6 problems in small.yml"
    for line, words in zip(
        lines,
        ["data/nowhere", "gt_size (=49)", "milestones is empty", "total_iters", "calculate_pnsr", "print_frq"],
        strict=True,
    ):
        assert words in line


def test_wrong_value_hides_no_other_mistake(load):
    message = complaint(load, ("manual_seed: 3", "manual_seed: x"), ("gt_size: 48", "gt_size: 49"))
    assert "manual_seed (='x')" in message
    assert "gt_size (=49)" in message


def test_two_sets_of_one_name_are_refused(load):
    message = complaint(load, ("name: own", "name: Set5"), text=TEST_TEXT, is_train=False)
    assert "datasets.test_2.name (='Set5') is also that of datasets.test_1" in message


@pytest.mark.parametrize(
    "replacement",
    [
        ("type: L1Loss", "type: FooLoss"),
        ("photos\n    type: PairedImageDataset", "photos\n    type: FooDataset"),
        ("path:\n", "network_d: {type: FooNet}\npath:\n"),
        ("path:\n", "path:\n  pretrain_network_d: gone.pth\n"),
    ],
)
def test_test_does_not_look_at_what_training_alone_reads(load, replacement):
    load(replacement, is_train=False)
    if "network_d" not in replacement[1]:  # ignored, and said, where the training step has no discriminator
        assert "Foo" in complaint(load, replacement)


def test_test_file_without_test_set(load):
    text = TRAIN_TEXT[: TRAIN_TEXT.index("  val:")] + TRAIN_TEXT[TRAIN_TEXT.index("network_g:") :]
    assert "there is nothing to test" in complaint(load, text=text, is_train=False)


def test_test_file_read_as_a_training_is_taken_for_one(load):
    message = complaint(load, text=TEST_TEXT)
    assert message.endswith("is it a test file? Then `hriusr test`, or --test for `options check` and `doctor`")
    assert "\n" not in message


def test_train_without_train_section(load):
    text = TRAIN_TEXT[: TRAIN_TEXT.index("train:\n  ema")] + TRAIN_TEXT[TRAIN_TEXT.index("val:\n  val_freq") :]
    assert "train is missing: the section with total_iter" in complaint(load, text=text)


def test_cosine_periods_must_cover_the_run(load):
    message = complaint(
        load,
        (
            "type: MultiStepLR\n    milestones: [50, 80]\n    gamma: 0.5",
            "type: CosineAnnealingRestartLR\n    periods: [40, 40]\n    restart_weights: [1]",
        ),
    )
    assert "periods (=[40, 40]) cover 80 of train.total_iter (=100)" in message
    assert "restart_weights (=[1.0]) needs one weight for each of the 2 periods" in message


def test_network_argument_without_default(load):
    message = complaint(load, ("type: PlainNet", "type: BareNet"))
    assert "network BareNet needs the argument 'num_in_ch'" in message
    assert "network BareNet has no argument 'depths'" in message


@pytest.mark.parametrize(
    ("network", "color", "expected"),
    [
        ("PlainNet", "y", "(='y') gives 1 channel, but network_g.in_chans (=3, default of PlainNet); set that to 1"),
        ("PlainNet\n  in_chans: 3", "grey", "(='grey') gives 1 channel, but network_g.in_chans (=3); set that to 1"),
        (
            "PlainNet\n  in_chans: 1",
            "n",
            "is neither y nor grey and gives RGB's 3 channels, but network_g.in_chans (=1); set",
        ),
        (
            "BareNet\n  num_in_ch: 3\n  num_out_ch: 3",
            "y",
            "(='y') gives 1 channel, but network_g.num_in_ch (=3) and network_g.num_out_ch (=3); set that",
        ),
    ],
)
def test_colours_are_compared_with_the_channels_of_the_network(load, network, color, expected):
    """One channel against three would train by broadcasting, on a wrong loss."""
    text = TRAIN_TEXT.replace("    io_backend:", f"    color: {color}\n    io_backend:").replace("PlainNet", network)
    if "BareNet" in network:
        text = text.replace("  depths: [2, 2]\n  conv_scale: 1e-2\n", "")
    message = complaint(load, text=text)
    assert f"small.yml:{line_of('color', text)}: datasets.train.color {expected}" in message
    assert f"datasets.val.color {expected}" in message
    assert "2 problems" in message


def test_colours_of_the_network_are_taken(load):
    load(
        ("type: PlainNet", "type: PlainNet\n  in_chans: 1"), text=TRAIN_TEXT.replace("    io_", "    color: y\n    io_")
    )
    # a test reads no training set
    test_text = TEST_TEXT.replace("  test_1:", "  train: {name: a, type: PairedImageDataset, color: y}\n  test_1:")
    load(text=test_text, is_train=False)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ("[{gt_size: 64}]", "datasets.train.progressive.0.iter is missing: Steps that are done"),
        ("[{iter: 1, gt_size: x}]", "datasets.train.progressive.0.gt_size (='x'): must be a whole number"),
        ("[{iter: 1}, {iter: 2, gt_sise: 64}]", "unknown key 'gt_sise' in datasets.train.progressive.1; did you mean"),
        ("[5]", "datasets.train.progressive.0 (=5): must be a section"),
    ],
)
def test_mistake_in_a_stage_of_patches_is_named(load, stages, expected):
    message = complaint(
        load, ("    gt_size", f"    progressive: {stages}\n    gt_size"), ("print_freq: 10", "print_frq: 1")
    )
    assert expected in message
    assert "print_frq" in message, "the rest is checked too"
    assert "2 problems" in message


def test_misspelt_key_of_a_stage_is_taken_for_its_neighbour(load):
    message = complaint(load, ("    gt_size", "    progressive: [{iters: 2, gt_size: 65}]\n    gt_size"))
    assert "unknown key 'iters' in datasets.train.progressive.0; did you mean 'iter'?" in message
    assert "gt_size (=65) is no multiple of scale" in message


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("network_g (PlainNet): depths (=[2, 2]) does not suit upscale (=2)", "  depths"),
        ("network_g (PlainNet): too large", "network_g"),
    ],
)
def test_what_a_constructor_refuses_has_its_line(load, said, line):
    def build(network_opt):
        assert network_opt == {"type": "PlainNet", "upscale": 2, "depths": [2, 2], "conv_scale": 0.01}
        raise OptionsError(said)

    assert complaint(load, build_network=build) == f"small.yml:{line_of(line)}: {said}"


def test_what_a_foreign_constructor_does_not_foresee_is_one_line(load):
    def build(network_opt):
        return network_opt["depths"][2]

    message = complaint(load, build_network=build)
    assert message.startswith(f"small.yml:{line_of('network_g')}: network_g (PlainNet): building it fails (IndexError")


def test_network_with_wrong_arguments_is_not_built(load):
    complaint(load, ("depths: [2, 2]", "depths: 2"), build_network=lambda network_opt: pytest.fail("built"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "small.yml: the file is empty"),
        ("- a\n- b\n", "small.yml:1: the file must hold `key: value` lines"),
        ("name: a\n\tscale: 2\n", "small.yml:2: bad YAML: found character '\\t'"),
        ("name: a\nscale: [2\nnum_gpu: 0\n", "small.yml:3: bad YAML: expected ',' or ']'"),
        ("name: a: b\n", "small.yml:1: bad YAML: mapping values are not allowed here"),
        ("name: a\nscale: 2\nscale: 4\n", "small.yml:3: key 'scale' stands twice, on lines 2 and 3; keep one"),
        ("name: !!python/object/apply:os.getcwd []\n", "small.yml:1: bad YAML: could not determine a constructor"),
        ("1: 2\n", "small.yml:1: the key 1 is read as 1; put it into quotes"),
        ("on: 2\n", "small.yml:1: the key on is read as True; put it into quotes"),
        ("? [a, b]\n: 2\n", "small.yml:1: a list stands where a key should; write a word"),
        ("name: a\nscale: 2\x07\n", "small.yml:2: bad YAML: control character #x07; delete it"),
        ("a: &a\n  b: *a\n", "an alias (*name) stands inside the value it names"),
    ],
)
def test_bad_yaml_is_named_with_its_line(load, text, expected):
    assert expected in complaint(load, text=text)


def test_file_that_is_not_there_suggests_one_that_is(load, workplace):
    load()
    with pytest.raises(OptionsError, match=r"smal.yml does not exist; did you mean 'small.yml'\?"):
        load_options("smal.yml", is_train=True)
    with pytest.raises(OptionsError, match="is a folder"):
        load_options(workplace, is_train=True)


def test_file_that_is_no_text(workplace):
    (workplace / "picture.yml").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    with pytest.raises(OptionsError, match=r"picture.yml is not UTF-8 text"):
        load_options("picture.yml", is_train=True)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("prefetch_mode: ~", "persistent_workers: no", "ignored datasets.train.persistent_workers: loading processes"),
        ("use_shuffle: true", "use_shuffle: false", "ignored datasets.train.use_shuffle: training patches are always"),
        ("use_hflip: true", "use_flip: true", "use_flip is use_hflip nowadays; taken as such"),
        ("strict_load_g: true", "strict_load: true", "strict_load is strict_load_g nowadays"),
        ("path:\n", "network_d:\n  type: X\npath:\n", "ignored network_d: there is no discriminator"),
        (
            "  pixel_opt",
            "  gan_opt: {type: GANLoss}\n  net_d_iters: 1\n  pixel_opt",
            "train.gan_opt, train.net_d_iters",
        ),
        ("scale: 2\n", "scale: 2\nresize_prob: [1, 0, 0]\ngt_usm: true\n", "resize_prob: SRModel does not degrade"),
        ("    gt_size", "    blur_sigma: [1, 2]\n    gt_size", "train.blur_sigma: PairedImageDataset does not blur"),
        ("crop_border: 2", "crop_border: 4", "crop_border (=4) differs from scale (=2)"),
        ("  pixel_opt", "  aux_opt: {type: L1Loss}\n  pixel_opt", "train.aux_opt: SRModel has no auxiliary output"),
        ("resume_state: ~", "resume_state: no.state", "resume_state (='no.state') does not exist: the run must have"),
        ("milestones: [50, 80]", "milestones: [80, 50]", "milestones (=[80, 50]) do not ascend"),
        ("milestones: [50, 80]", "milestones: [50, 800]", "reach beyond train.total_iter (=100)"),
        ("scale: 2\n", "scale: 2\nscale: 2\n", "key 'scale' stands twice, on lines 3 and 4, with the same value"),
    ],
)
def test_what_has_no_effect_is_said(load, old, new, expected, caplog):
    warnings = load((old, new)).run.warnings
    assert len(warnings) == 1
    assert expected in warnings[0]
    assert warnings[0].startswith("small.yml:")
    assert expected in caplog.text


def test_border_of_restoration_is_0(load):
    """As published for noise and JPEG; with the border that suits x2, the file is warned of."""
    scale = ("scale: 2\n", "scale: 1\n"), ("upscale: 2", "upscale: 1")
    assert "published numbers cut off 0 at scale 1" in load(*scale).run.warnings[0]
    assert load(*scale, ("crop_border: 2", "crop_border: 0")).run.warnings == ()


def test_noise_without_pairs_is_ignored(load):
    text = TEST_TEXT.replace("    dataroot_lq: data/lr\nnetwork", "    dataroot_lq: data/lr\n    lq_noise: 15\nnetwork")
    options = load(text=text, is_train=False)
    assert options.datasets["test_2"].lq_noise is None
    assert "ignored datasets.test_2.lq_noise: SingleImageDataset has no pairs" in " ".join(options.run.warnings)


def test_refused_dataset_is_one_mistake_not_ten(load):
    old = "type: PairedImageDataset"
    message = complaint(load, (old, "type: REDSDataset\n    num_frame: 21\n    val_partition: official"))
    assert message.endswith("REDSDataset is not supported: it is for video, and only single pictures are supported")


def test_old_name_still_works(load):
    assert load(("use_hflip: true", "use_flip: false")).datasets["train"].use_hflip is False


def test_validation_taken_away_on_the_command_line_is_no_news(load):
    assert load(overrides=["datasets:val=~"]).run.warnings == ()
    unset = TRAIN_TEXT[: TRAIN_TEXT.index("  val:")] + TRAIN_TEXT[TRAIN_TEXT.index("network_g:") :]
    assert "val has no effect: datasets has no entry val" in load(text=unset).run.warnings[0]


def test_clean_file_gives_no_warning(load):
    assert load().run.warnings == ()
    assert load(text=TEST_TEXT, is_train=False).run.warnings == (
        "small.yml:17: datasets.test_2 does not get psnr: SingleImageDataset has no gt",
    )
    niqe = "  metrics:\n    niqe:\n      type: calculate_niqe\n      crop_border: 2\n"
    text = TEST_TEXT[: TEST_TEXT.index("  metrics:")] + niqe
    assert load(text=text, is_train=False).run.warnings == ()


def test_meta_info_of_basicsr_is_found_in_datasets(load, workplace):
    (workplace / "datasets/meta_info").mkdir(parents=True)
    (workplace / "datasets/meta_info/list.txt").write_text("a.png (1,1,3)\n")
    options = load(("    gt_size", "    meta_info_file: hat/data/meta_info/list.txt\n    gt_size"))
    assert options.datasets["train"].meta_info_file == "datasets/meta_info/list.txt"
    assert "took datasets/meta_info/list.txt" in options.run.warnings[0]
