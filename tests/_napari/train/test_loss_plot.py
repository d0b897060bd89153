"""The loss plot: running mean, robust axis, labels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_direct_denoiser._napari.train.loss_plot import LossPlot, robust_range, running_mean
from napari_direct_denoiser.training.provenance import Record

pytestmark = pytest.mark.gui


@pytest.fixture
def losses(rng):
    """A fall, a slow trend from 1 to 0.9, and a zigzag ten times as large."""
    steps = np.arange(1, 3001)
    trend = 1 - 0.1 * steps / 3000
    return steps, trend, trend + 20 * np.exp(-steps / 50) + rng.normal(0, 1, 3000)


def test_trend_is_drawn_and_the_axis_is_scaled_to_it(qtbot, losses):
    plot = LossPlot()
    qtbot.addWidget(plot)
    steps, trend, noisy = losses
    for step, loss, clean in zip(steps, noisy, trend, strict=True):
        checked = float(clean) if step % 100 == 0 else None
        plot.add(
            Record(
                step=int(step),
                seconds=1.0,
                neg_elbo=float(loss),
                direct_loss=2 * float(loss),
                validation_neg_elbo=checked,
                validation_direct_loss=checked,
            )
        )
    plot.draw()
    x, y = plot.neg_elbo.train.getData()
    late = x > 500
    np.testing.assert_allclose(y[late], np.interp(x[late], steps, trend), atol=0.35)
    low, high = plot.neg_elbo.item.viewRange()[1]
    assert low > 0.4  # neither the zigzag, which reaches from -2 to 4, nor the fall from 20 scales the axis
    assert high < 1.8
    assert len(x) <= 2000
    assert plot.neg_elbo.validation.zValue() > plot.neg_elbo.train.zValue()
    assert "−ELBO" in plot.neg_elbo.item.titleLabel.text
    assert "direct loss" in plot.direct.item.titleLabel.text
    plot.reset()
    assert plot.neg_elbo.train.getData()[0] is None or len(plot.neg_elbo.train.getData()[0]) == 0


def test_running_mean_of_the_ends_takes_what_is_there():
    np.testing.assert_allclose(running_mean([1, 2, 3, 4, 5], 3), [1.5, 2, 3, 4, 4.5])
    np.testing.assert_allclose(running_mean([1, 2, 3], 0), [1, 2, 3])
    np.testing.assert_allclose(running_mean([1, np.nan, 3], 3), [1, 2, 3])
    assert len(running_mean([], 5)) == 0


def test_range_of_nothing_and_of_one_value():
    assert robust_range([], [], [], []) is None
    assert robust_range([1], [np.nan], [], []) is None
    low, high = robust_range([1], [2.0], [], [])
    assert low == 2.0
    assert high > low


def test_validation_is_always_in_view():
    steps = np.arange(200)
    low, high = robust_range(steps, np.where(steps < 20, 9.0, 3.1), [1, 100], [5.0, 3.2])
    assert (low, high) == (3.1, 3.2)
