"""Augmentations that are ready to use."""

from __future__ import annotations

import pytest
import torch

from lianhe.core.errors import SpecError
from lianhe.regularisation import FeatureDropout, GaussianNoise, RandomFlip, RandomShift, WordDropout


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_noise_has_the_deviation_that_was_asked_for_and_no_bias():
    x = torch.arange(50_000.0).reshape(5000, 10)
    noise = GaussianNoise(0.3)(x) - x
    assert noise.std().item() == pytest.approx(0.3, rel=0.05)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)


def test_blank_features_are_blank_and_the_others_stay():
    x = torch.rand(2000, 10) + 1
    blanked = FeatureDropout(0.3, value=-1.0)(x)
    gone = blanked == -1
    assert gone.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(blanked[~gone], x[~gone])


def test_words_are_forgotten_and_padding_stays():
    x = torch.randint(2, 50, (2000, 10))
    x[:, 7:] = 0
    forgotten = WordDropout(0.25, unknown=1)(x)
    assert (forgotten[:, 7:] == 0).all()
    gone = forgotten[:, :7] == 1
    assert gone.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(forgotten[:, :7][~gone], x[:, :7][~gone])


def test_images_are_flipped_or_not():
    x = torch.rand(1000, 2, 3, 4)
    flipped = RandomFlip(0.3)(x)
    turned = (flipped == x.flip(-1)).flatten(1).all(1)
    stayed = (flipped == x).flatten(1).all(1)
    assert bool((turned ^ stayed).all())
    assert turned.float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_images_are_shifted_by_whole_pixels_in_both_directions():
    x = torch.rand(300, 2, 5, 6) + 1
    shifted = RandomShift(2)(x)
    seen = set()
    for before, after in zip(x, shifted, strict=True):
        fits = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(by_hand(before, dy, dx), after)
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) == 25


def by_hand(image, dy, dx):
    result = torch.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row + dy < height and 0 <= column + dx < width:
                result[:, row, column] = image[:, row + dy, column + dx]
    return result


def test_only_the_inputs_that_are_meant_are_changed():
    x = {"image": torch.rand(8, 1, 4, 4) + 1, "text": torch.full((8, 3), 5), "row": (torch.ones(8, 2),)}
    noisy, moved, forgot = GaussianNoise(1.0)(x), RandomShift(1)(x), WordDropout(0.9, unknown=1)(x)
    assert torch.equal(noisy["text"], x["text"])
    assert not torch.equal(noisy["row"][0], x["row"][0])
    assert torch.equal(moved["row"][0], x["row"][0])
    assert not torch.equal(moved["image"], x["image"])
    assert torch.equal(forgot["image"], x["image"])
    assert not torch.equal(forgot["text"], x["text"])


@pytest.mark.parametrize(
    ("augment", "match"),
    [
        (GaussianNoise(1.0), r"GaussianNoise\(std=1.0\) is for inputs of floating point, but the inputs are"),
        (FeatureDropout(0.1), "is for inputs of floating point, but the inputs are torch.int64"),
        (RandomFlip(), "is for images"),
        (RandomShift(1), r"is for images, \[n, channels, height, width\], but the inputs are .* \[4, 3\]"),
    ],
)
def test_inputs_of_another_form_are_refused(augment, match):
    with pytest.raises(SpecError, match=match):
        augment(torch.ones(4, 3).long())


def test_texts_are_whole_numbers():
    with pytest.raises(SpecError, match="is for texts"):
        WordDropout(0.1, unknown=1)(torch.ones(4, 3))


def test_an_image_is_not_shifted_out_of_sight():
    with pytest.raises(SpecError, match="images of 4 x 3 pixels out of sight"):
        RandomShift(3)(torch.ones(2, 1, 4, 3))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: GaussianNoise(0), "std of GaussianNoise=0"),
        (lambda: FeatureDropout(1.0), "rate of FeatureDropout=1.0: must be less than 1"),
        (lambda: FeatureDropout(-0.1), "rate of FeatureDropout=-0.1"),
        (lambda: RandomFlip(2), "rate of RandomFlip=2"),
        (lambda: RandomShift(0), "pixels of RandomShift=0"),
        (lambda: RandomShift(1.5), "pixels of RandomShift=1.5"),
        (lambda: WordDropout(0.1, unknown=-1), "unknown of WordDropout=-1"),
        (lambda: WordDropout(0.1, unknown=0), "unknown and padding of WordDropout are both 0"),
    ],
)
def test_numbers_out_of_range_are_refused(make, match):
    with pytest.raises(SpecError, match=match):
        make()
