"""The estimated gain in the Train dock: live, at the end, of other models, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from stand_in import noisy_image

from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser._napari.train.gain_curve import GainCurve
from napari_direct_denoiser.training.provenance import Record

pytestmark = pytest.mark.gui

WHY = "The noise model does not fit: train with the noise set to auto"


@pytest.fixture
def viewer(light_viewer):
    return light_viewer


@pytest.fixture
def dock(light_dock):
    return light_dock


def rising(step):
    """Nothing before a first validation at step 5, then every 5 steps a little less of a rise towards 2 dB."""
    validated = step // 5
    return (2.0 - 1.0 / validated, 0.15, None) if validated else (None, None, None)


def curve_of(gains, error=0.1, rise=None, over_mean=None):
    """Give the curve of a training that was validated every 100 steps, with two records between validations."""
    curve = GainCurve()
    for number, gain in enumerate(gains):
        for step in (100 * number, 100 * number + 30, 100 * number + 60):
            curve.add(
                Record(
                    step=step,
                    seconds=step / 10,
                    neg_elbo=1.0,
                    direct_loss=1.0,
                    validation_neg_elbo=3 - 0.01 * number,
                    validation_direct_loss=1.0,
                    estimated_gain_db=gain,
                    estimated_gain_error_db=None if gain is None else error,
                    estimated_rise_db=rise,
                    estimated_over_mean_db=over_mean,
                    estimated_over_mean_error_db=None if over_mean is None else error,
                )
            )
    return curve


def test_the_gain_is_drawn_live_with_its_error_and_summed_up_at_the_end(dock, running, finish, qtbot):
    running(gain=rising)
    gain = dock.view.gain
    assert gain.isVisibleTo(dock)
    qtbot.waitUntil(lambda: "±" in gain.words.text())
    assert gain.words.text().startswith("Estimated gain over the best blur: 1.")
    assert gain.words.text().endswith("± 0.1 dB") or gain.words.text().endswith("± 0.2 dB")
    assert gain.plot.isVisibleTo(dock)
    qtbot.waitUntil(lambda: np.size(gain.plot.validations.getData()[0]) > 6)
    steps, gains = gain.plot.validations.getData()
    assert steps[0] >= 5
    np.testing.assert_allclose(gains, [rising(step)[0] for step in steps])
    for line, distance in ((gain.plot.low, -0.15), (gain.plot.line, 0), (gain.plot.high, 0.15)):
        np.testing.assert_allclose(line.getData()[1][:-1], gains + distance)
        assert line.getData()[0][-1] >= steps[-1]  # the newest gain holds until now
    dock.stop_button.click()
    finish(dock)
    assert gain.words.text().startswith("Denoised images are an estimated 1.")
    assert "nearer to the truth than the best Gaussian blur." in gain.words.text()
    assert gain.plot.isVisibleTo(dock)


def test_the_reason_stands_in_place_of_the_curve(dock, running, finish, qtbot):
    running(gain=lambda step: (None, None, WHY))
    gain = dock.view.gain
    qtbot.waitUntil(lambda: WHY in gain.words.text())
    assert gain.words.text() == f"The gain over a blur cannot be estimated. {WHY}."
    assert not gain.plot.isVisibleTo(dock)
    dock.stop_button.click()
    finish(dock)
    assert WHY in gain.words.text()
    assert not gain.plot.isVisibleTo(dock)


def test_numbers_at_the_axis_are_decibels_however_small_the_gain(dock):
    plot = dock.view.gain.plot
    curve = curve_of([0.002, 0.003], error=0.001)
    plot.draw(curve)
    assert plot.item.getAxis("left").labelUnitPrefix == ""
    assert plot.item.getAxis("left").autoSIPrefixScale == 1.0


def test_before_the_first_validation_there_is_no_curve(dock, running, qtbot):
    running()
    assert dock.view.gain.words.text() == "The gain is estimated at the first validation."
    assert not dock.view.gain.plot.isVisibleTo(dock)


def test_the_chosen_model_shows_its_own_curve(viewer, dock, engine, finish, rng):
    viewer.add_image(noisy_image(rng), name="cells")
    for factor in (1.0, -1.0):
        engine(steps=40, gain=lambda step, factor=factor: (factor * step / 10, 0.01, None))
        dock.train_button.click()
        finish(dock)
    gain = dock.view.gain
    assert gain.words.text().startswith("The best Gaussian blur is an estimated 4.00 dB")
    assert min(gain.plot.line.getData()[1]) < -3
    dock.models.choice.choose(MODELS.all[0])
    assert gain.words.text().startswith("Denoised images are an estimated 4.00 dB (±0.01) nearer to the truth")
    assert min(gain.plot.line.getData()[1]) > 0
    assert dock.view.losses_section.isVisibleTo(dock)
    MODELS.clear()
    assert not gain.isVisibleTo(dock)
    assert not dock.view.losses_section.isVisibleTo(dock)


def test_records_between_two_validations_add_nothing():
    curve = curve_of([None, 1.0, 1.0, 1.5], error=None)
    assert (curve.steps, curve.gains, curve.errors) == ([100, 200, 300], [1.0, 1.0, 1.5], [0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([0.5, 1.9], "Denoised images are an estimated 1.9 dB (±0.1) nearer to the truth than the best Gaussian blur."),
        ([0.05], "A plain Gaussian blur would do: the estimated gain over the best one is 0.1 dB (±0.1)."),
        ([-0.04], "A plain Gaussian blur would do: the estimated gain over the best one is 0.0 dB (±0.1)."),
        ([-0.7], "The best Gaussian blur is an estimated 0.7 dB (±0.1) nearer to the truth than denoised images."),
        ([], ""),
    ],
)
def test_outcome_in_words(gains, expected):
    assert curve_of(gains).outcome() == expected


def test_a_loss_is_a_negative_gain_while_training():
    assert curve_of([-0.7]).now() == "Estimated gain over the best blur: -0.7 ± 0.1 dB"


def test_a_small_gain_is_not_worth_a_network_however_sure_it_is():
    assert "blur would do" in curve_of([0.08], error=0.01).outcome()
    assert "0.12 dB (±0.01) nearer" in curve_of([0.12], error=0.01).outcome()


@pytest.mark.parametrize(
    ("rise", "words"),
    [(0.02, "Twice as much training would hardly help."), (0.3, "brought 0.30 dB: more training may help.")],
)
def test_whether_more_training_would_help(rise, words):
    assert words in curve_of([0.5, 1.9], rise=rise).outcome()


def test_that_the_mean_of_samples_is_better_is_said_only_if_it_is_sure():
    assert "mean of" not in curve_of([1.9], over_mean=-0.15).outcome()
    words = curve_of([1.9], over_mean=-0.4).outcome()
    assert "The mean of 50 samples is an estimated 0.40 dB (standard error 0.10) better than the direct pass." in words
