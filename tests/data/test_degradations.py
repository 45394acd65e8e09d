"""Each operation of the degradations against BasicSR's, Pillow's or a closed form; then all of them together."""

import hriusr.basicsr_bridge  # noqa: F401 - first: lets basicsr be imported

# isort: split
import io

import numpy as np
import pytest
import torch
from basicsr.data import degradations as reference
from basicsr.utils import DiffJPEG, USMSharp
from basicsr.utils.img_process_util import filter2D
from PIL import Image
from torch.nn import functional as F

from hriusr.data.degradations import filters
from hriusr.data.degradations.draws import degradation_generator, draw_sample
from hriusr.data.degradations.filters import filter_each, sharpen
from hriusr.data.degradations.jpeg import jpeg
from hriusr.data.degradations.kernels import draw_blur_kernel, draw_final_kernel
from hriusr.data.degradations.noise import add_gaussian_noise, add_poisson_noise
from hriusr.data.degradations.pipeline import degrade
from hriusr.data.degradations.settings import KernelSettings, StageSettings, StagesSettings
from hriusr.data.image_io import image_to_tensor


@pytest.fixture
def crops(photo):
    """Two crops (2, 3, 96, 80), 0..1, whole multiples of 1 / 255."""
    return torch.stack([image_to_tensor(photo(name)[60:156, 100:180]) for name in ("astronaut", "chelsea")])


@pytest.fixture
def kernels():
    generator = np.random.default_rng(4)
    settings = KernelSettings()
    drawn = [draw_blur_kernel(settings.first, generator) for _ in range(2)]
    return torch.from_numpy(np.stack(drawn))


@pytest.fixture(params=["opencv", "torch"])
def way(request, monkeypatch):
    """Both ways of filtering; the second as it is taken on a GPU."""
    if request.param == "torch":
        monkeypatch.setattr(filters, "_FAST_DEVICES", ())


@pytest.mark.usefixtures("way")
def test_filtering_equals_that_of_basicsr(crops, kernels):
    torch.testing.assert_close(filter_each(crops, kernels), filter2D(crops, kernels), atol=2e-6, rtol=0)


@pytest.mark.usefixtures("way")
def test_sharpening_equals_that_of_basicsr(crops):
    torch.testing.assert_close(sharpen(crops), USMSharp()(crops), atol=3e-6, rtol=0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [(1, 1), (3, 9), (12, 1)])
def test_small_pictures_are_filtered(size, kernels):
    constant = torch.full((2, 3, *size), 0.5)
    torch.testing.assert_close(filter_each(constant, kernels), constant, atol=1e-5, rtol=0)
    torch.testing.assert_close(sharpen(constant), constant, atol=1e-5, rtol=0)


def pillow_jpeg(x_CHW, quality):
    buffer = io.BytesIO()
    image_HWC = (x_CHW * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(image_HWC).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return image_to_tensor(np.array(Image.open(buffer)))


@pytest.mark.parametrize("quality", [10, 30, 49, 50, 75, 95])
@pytest.mark.parametrize("size", [(96, 80), (41, 77)])
def test_jpeg_is_near_pillows_and_nearer_than_basicsrs(crops, quality, size):
    crops = crops[..., : size[0], : size[1]].contiguous()
    ours = jpeg(crops, torch.full((2,), float(quality)))
    theirs = DiffJPEG(differentiable=False)(crops, quality=quality).detach()
    expected = torch.stack([pillow_jpeg(x_CHW, quality) for x_CHW in crops])
    error = (ours - expected).abs() * 255
    assert error.mean() < 1
    assert error.mean() < 0.75 * (theirs - expected).abs().mean() * 255


def test_jpeg_takes_a_quality_for_each_picture(crops):
    both = jpeg(crops, torch.tensor([30.0, 90.5]))
    for number, quality in enumerate((30.0, 90.5)):
        alone = jpeg(crops[number : number + 1], torch.tensor([quality]))
        torch.testing.assert_close(both[number : number + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("is_grey", [False, True])
def test_gaussian_noise_has_the_spread_asked_for(is_grey):
    flat = torch.full((3, 128, 128), 0.5)
    noise = add_gaussian_noise(flat, 20.0, is_grey=is_grey, generator=torch.Generator().manual_seed(0)) - flat
    assert noise.mean() == pytest.approx(0, abs=1e-3)
    assert noise.std() * 255 == pytest.approx(20, rel=0.02)
    assert torch.equal(noise[0], noise[1]) == is_grey


@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize("factor", [0.3, 2.0])
def test_poisson_noise_spreads_as_that_of_basicsr(crops, is_grey, factor):
    """Mean square and third power of the noise over many draws; both, since the distribution is skewed."""
    picture = crops[0] * 0.5 + 0.2
    ours, theirs = [], []
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        ours.append(add_poisson_noise(picture, factor, is_grey=is_grey, generator=generator) - picture)
        noisy = reference.add_poisson_noise_pt(picture[None], scale=factor, gray_noise=float(is_grey))[0]
        theirs.append(noisy - picture)
    ours, theirs = torch.stack(ours), torch.stack(theirs)
    assert ours.mean() == pytest.approx(float(theirs.mean()), abs=2e-3)
    assert ours.square().mean() == pytest.approx(float(theirs.square().mean()), rel=0.02)
    by_place = [noise.var(0).flatten() for noise in (ours, theirs)]  # brighter places are noisier
    assert torch.corrcoef(torch.stack([by_place[0], picture.flatten()]))[0, 1] == pytest.approx(
        float(torch.corrcoef(torch.stack([by_place[1], picture.flatten()]))[0, 1]), abs=0.05
    )


def plain_settings(**second):
    """Rounds that change next to nothing but what is said."""
    quiet = {"noise_range": (0.0, 0.0), "gaussian_noise_prob": 1.0, "jpeg_range": (100.0, 100.0)}
    first = StageSettings(resize_prob=(0, 0, 1), **quiet)
    return StagesSettings(first, StageSettings(**{"blur_prob": 0.0, "resize_prob": (0, 0, 1), **quiet, **second}))


def run(crops, settings, positions, scale=4, seed=0):
    draws = [draw_sample(settings, degradation_generator(seed, position)) for position in positions]
    kernels = KernelSettings()
    generators = [np.random.default_rng([seed, position]) for position in positions]
    stacks = []
    for draw in (
        lambda generator: draw_blur_kernel(kernels.first, generator),
        lambda generator: draw_blur_kernel(kernels.second, generator),
        lambda generator: draw_final_kernel(0.8, 21, generator),
    ):
        stacks.append(torch.from_numpy(np.stack([draw(generator) for generator in generators])))
    return degrade(crops, *stacks, draws, scale)


def test_rounds_without_effect_leave_the_resize(crops):
    pulse = torch.zeros(2, 21, 21)
    pulse[:, 10, 10] = 1
    draws = [draw_sample(plain_settings(), degradation_generator(0, position)) for position in range(2)]
    results = degrade(crops, pulse, pulse, pulse, draws, 4)
    for number, draw in enumerate(draws):
        size = (24, 20)
        expected = F.interpolate(crops[number : number + 1], size=size, mode=draw.second.resize_mode)
        assert (results[number] - expected[0]).abs().mean() < 2.5 / 255  # JPEG halves the chroma


def test_no_picture_is_resized_to_nothing():
    settings = StagesSettings.from_options({"resize_range": [0.01, 1], "resize_prob": [0, 1, 0]})
    results = run(torch.rand(2, 3, 4, 8), settings, [0, 1], scale=4)
    assert results.shape == (2, 3, 1, 2)
    assert results.isfinite().all()


def test_sample_does_not_depend_on_its_batch(crops):
    together = run(crops, StagesSettings(), [5, 6])
    apart = torch.cat([run(crops[:1], StagesSettings(), [5]), run(crops[1:], StagesSettings(), [6])])
    assert torch.equal(together, apart)


def test_same_seed_and_position_give_the_same_bits_and_others_do_not(crops):
    first = run(crops, StagesSettings(), [1, 2])
    torch.manual_seed(99)
    assert torch.equal(first, run(crops, StagesSettings(), [1, 2]))
    assert not torch.equal(first, run(crops, StagesSettings(), [2, 3]))
    assert not torch.equal(first, run(crops, StagesSettings(), [1, 2], seed=1))


def test_result_is_a_picture_of_8_bits_of_the_asked_size(crops):
    for scale in (1, 2, 4):
        lq = run(crops, StagesSettings(), [7, 8], scale)
        assert lq.shape == (2, 3, 96 // scale, 80 // scale)
        assert torch.equal((lq * 255).round() / 255, lq)
        assert 0 <= lq.min() < lq.max() <= 1


def test_draws_follow_the_probabilities():
    settings = StagesSettings(
        StageSettings(resize_prob=(0.1, 0.6, 0.3), gaussian_noise_prob=0.7, gray_noise_prob=0.2),
        StageSettings(blur_prob=0.4, resize_range=(0.5, 1.1)),
    )
    draws = [draw_sample(settings, degradation_generator(3, position)) for position in range(4000)]
    first = [draw.first for draw in draws]
    assert np.mean([stage.resize_scale > 1 for stage in first]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([stage.resize_scale < 1 for stage in first]) == pytest.approx(0.6, abs=0.03)
    assert np.mean([stage.is_gaussian for stage in first]) == pytest.approx(0.7, abs=0.03)
    assert np.mean([stage.is_grey for stage in first]) == pytest.approx(0.2, abs=0.03)
    assert all(stage.is_blurred for stage in first)
    assert np.mean([draw.second.is_blurred for draw in draws]) == pytest.approx(0.4, abs=0.03)
    assert np.mean([draw.is_jpeg_last for draw in draws]) == pytest.approx(0.5, abs=0.03)
    for mode in ("area", "bilinear", "bicubic"):
        assert np.mean([draw.final_mode == mode for draw in draws]) == pytest.approx(1 / 3, abs=0.03)
    scales = [draw.second.resize_scale for draw in draws]
    assert min(scales) == pytest.approx(0.5, abs=0.01)
    assert max(scales) == pytest.approx(1.1, abs=0.01)
    for lowest, highest, values in (
        (30, 95, [stage.jpeg_quality for stage in first]),
        (1, 30, [stage.noise_strength for stage in first if stage.is_gaussian]),
        (0.05, 3, [stage.noise_strength for stage in first if not stage.is_gaussian]),
    ):
        assert np.mean(values) == pytest.approx((lowest + highest) / 2, rel=0.05)
        assert lowest <= min(values) <= max(values) <= highest


def test_options_reach_both_rounds():
    settings = StagesSettings.from_options({"jpeg_range": [1, 2], "jpeg_range2": [3, 4], "second_blur_prob": 0.1})
    assert settings.first.jpeg_range == (1, 2)
    assert (settings.second.jpeg_range, settings.second.blur_prob) == ((3, 4), 0.1)
    assert StagesSettings.from_options({}) == StagesSettings()
