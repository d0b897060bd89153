"""Plots of the noise of an image and its model: variance over signal, and the distribution at one signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg

from ..shared.panels import TRAIN_COLOUR, VALIDATION_COLOUR, Panels, in_colour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...noise import NoiseFit, NoiseModel

_CALIBRATION_COLOUR = "#3fb27f"
_CURVE_POINTS = 200
_NEAR = 0.3  # standard deviations within which the signal of a pixel counts as this signal
_FEWEST = 50
_BINS = 40


class NoisePlot(Panels):
    """Measured and modelled variance over all signals, and histogram and density at a chosen one."""

    def __init__(self) -> None:
        super().__init__(
            "Above: variance of the noise over the signal; points are measured, the line is the model. Below: noisy "
            "values of pixels with one signal; bars are counted, the line is the model. The lines should follow the "
            "points and the bars.",
            height=300,
        )
        self.variance = self.panel(0, "")
        self.variance.setLabel("bottom", "signal (counts)")
        self.measured = self.variance.plot(pen=None, symbol="o", symbolSize=5, symbolBrush=TRAIN_COLOUR, symbolPen=None)
        self.calibrated = self.variance.plot(
            pen=None, symbol="t", symbolSize=6, symbolBrush=_CALIBRATION_COLOUR, symbolPen=None
        )
        self.curve = self.variance.plot(pen=pg.mkPen(VALIDATION_COLOUR, width=2))
        self.chosen = pg.InfiniteLine(pen=pg.mkPen("#999999", width=1))
        self.variance.addItem(self.chosen)
        self.histogram = self.panel(1, "")
        self.histogram.setLabel("bottom", "noisy value (counts)")
        self.bars = self.histogram.plot(stepMode="center", fillLevel=0, pen=None, brush=pg.mkBrush(TRAIN_COLOUR + "90"))
        self.density = self.histogram.plot(pen=pg.mkPen(VALIDATION_COLOUR, width=2))
        self._fit: NoiseFit | None = None
        self._pairs: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def show_fit(self, fit: NoiseFit, calibration: NoiseFit | None = None) -> None:
        """Draw the measured variances of the images, and of the calibration if there is one, and the model."""
        self._fit = fit
        parts = [fit] if calibration is None else [fit, calibration]
        self.measured.setData(fit.signals, fit.variances)
        self.calibrated.setData(*((calibration.signals, calibration.variances) if calibration else ([], [])))
        low, high = (pick(one.signal_range[end] for one in parts) for end, pick in enumerate((min, max)))
        signals = np.linspace(low, high if high > low else low + 1, _CURVE_POINTS)
        self.curve.setData(signals, variance_curve(fit.model, signals))
        key = [in_colour("images", TRAIN_COLOUR), in_colour("model", VALIDATION_COLOUR)]
        key += [in_colour("calibration", _CALIBRATION_COLOUR)] if calibration else []
        self.entitle(self.variance, f"Variance: {', '.join(key)}")
        signal, noisy = (calibration or fit).pairs  # the signal of a calibration is more exact
        order = np.argsort(signal, kind="stable")
        self._pairs = signal[order], noisy[order]

    def signal_at(self, part: float) -> float:
        """Quantile of the signal over all pixels; ``part`` from 0 to 1."""
        assert self._pairs is not None
        return float(np.quantile(self._pairs[0], part)) if len(self._pairs[0]) else 0.0

    def show_signal(self, signal: float) -> None:
        """Draw the histogram and density at one signal, counts."""
        assert self._fit is not None
        assert self._pairs is not None
        model = self._fit.model
        deviation = float(np.sqrt(variance_curve(model, np.array([signal]))[0]))
        first, last = np.searchsorted(self._pairs[0], [signal - _NEAR * deviation, signal + _NEAR * deviation])
        values = self._pairs[1][first:last]
        self.chosen.setPos(signal)
        edges = _edges(values, signal, deviation)
        counts = np.histogram(values, edges)[0]
        enough = counts.sum() >= _FEWEST
        self.bars.setData(edges, counts / max(counts.sum(), 1) / np.diff(edges) * enough)
        grid = np.linspace(edges[0], edges[-1], _CURVE_POINTS)
        self.density.setData(grid, density_curve(model, grid, signal))
        found = f"{counts.sum():,} pixels" if enough else "too few pixels"
        self.entitle(self.histogram, f"Values at a signal of {signal:.4g}: {in_colour(found, TRAIN_COLOUR)}")


def variance_curve(model: NoiseModel, signals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of the noise (counts^2) at each signal."""
    import torch  # late: it takes seconds, and is loaded once there is a model

    with torch.inference_mode():
        found = model.variance(torch.from_numpy(signals).float().to(model.device))
    return np.asarray(found.cpu().double().numpy())


def density_curve(model: NoiseModel, noisy: NDArray[np.float64], signal: float) -> NDArray[np.float64]:
    """Density (per count) of each noisy value at one signal."""
    import torch

    with torch.inference_mode():
        values = torch.from_numpy(noisy).float().to(model.device)
        found = model.log_prob(values, torch.full_like(values, signal)).exp()
    return np.asarray(found.cpu().double().numpy())


def _edges(values: NDArray[np.float32], signal: float, deviation: float) -> NDArray[np.float64]:
    """Edges of bins that cover the values. Each bin of integers holds the same number of integers."""
    low, high = signal - 4 * deviation, signal + 5 * deviation  # skewed at low photon numbers
    step = (high - low) / _BINS
    if len(values) and np.all(values == np.round(values)):
        step = max(round(step), 1)
        low = np.floor(low) - 0.5
    return np.arange(low, high + step, step)
