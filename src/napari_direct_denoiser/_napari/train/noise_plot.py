"""Plots of the noise of an image and its model: variance over signal, distribution at one signal, correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg

from ..shared.panels import TRAIN_COLOUR, VALIDATION_COLOUR, Panels, in_colour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...noise import CorrelatedNoise, NoiseFit, NoiseModel

    Correlations = dict[str, NDArray[np.float64]]  # over distances 0 to 6, by axis

_CALIBRATION_COLOUR = "#3fb27f"
_CURVE_POINTS = 200
_NEAR = 0.3  # standard deviations within which the signal of a pixel counts as this signal
_FEWEST = 50
_X_COLOUR, _Y_COLOUR = "#cc79a7", "#c9b037"
_LAGS = 6  # pixels
_HEIGHT, _WITH_CORRELATION = 300, 420  # pixels
_POINTS, _REACH = 4096, 40  # of a density, and how many standard deviations it covers on each side
_BINS = 40


class NoisePlot(Panels):
    """Measured and modelled variance over all signals, histogram and density at a chosen one, correlation over lags.

    The correlation is shown if neighbouring pixels share noise.
    """

    def __init__(self) -> None:
        super().__init__(
            "Above: variance of the noise over the signal; points are measured, the line is the model. Below: noisy "
            "values of pixels with one signal; bars are counted, the line is the model. The lines should follow the "
            "points and the bars. If neighbouring pixels share noise, the correlation of theirs over their distance: "
            "points are measured, lines are the model.",
            height=_HEIGHT,
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
        self.correlation = self.panel(2, "")
        self.correlation.setLabel("bottom", "distance (pixels)")
        self.correlated: dict[str, pg.PlotDataItem] = {}
        self.correlation_model: dict[str, pg.PlotDataItem] = {}
        for axis, colour, symbol in (("x", _X_COLOUR, "o"), ("y", _Y_COLOUR, "t")):
            self.correlation_model[axis] = self.correlation.plot(pen=pg.mkPen(colour, width=2))
            self.correlated[axis] = self.correlation.plot(
                pen=None, symbol=symbol, symbolSize=6, symbolBrush=colour, symbolPen=None
            )
        self._show_correlation({}, {})
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
        found, modelled = fit.autocorrelation, correlation_curves(fit.model)
        measured = {} if found is None else {"x": found.along_x, "y": found.along_y}
        shared = bool(modelled or (found and found.axes))
        self._show_correlation(measured if shared else {}, modelled)
        signal, noisy = (calibration or fit).pairs  # the signal of a calibration is more exact
        order = np.argsort(signal, kind="stable")
        self._pairs = signal[order], noisy[order]

    def _show_correlation(self, measured: Correlations, modelled: Correlations) -> None:
        """Draw correlations over distances 0 to 6; hide the plot if there are none."""
        shown = bool(measured or modelled)
        if shown and self.correlation not in self.ci.items:
            self.addItem(self.correlation, 2, 0)
        elif not shown and self.correlation in self.ci.items:
            self.removeItem(self.correlation)
        self.set_height(_WITH_CORRELATION if shown else _HEIGHT)
        for axis in "xy":
            for curve, lags in ((self.correlated, measured), (self.correlation_model, modelled)):
                curve[axis].setData(*(np.arange(_LAGS + 1), lags[axis]) if axis in lags else ([], []))
        names = f"{in_colour('along x', _X_COLOUR)}, {in_colour('along y', _Y_COLOUR)}"
        self.entitle(self.correlation, f"Correlation with neighbours: {names}")

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

    from ...noise import CorrelatedNoise
    from ...noise.wrapped import pixel_noise

    model = pixel_noise(model)
    if isinstance(model, CorrelatedNoise):
        return _marginal_density(model, noisy, signal)
    with torch.inference_mode():
        values = torch.from_numpy(noisy).float().to(model.device)
        found = model.log_prob(values, torch.full_like(values, signal)).exp()
    return np.asarray(found.cpu().double().numpy())


def correlation_curves(model: NoiseModel) -> Correlations:
    """Correlation of pixels 0 to 6 apart along x and along y; empty for independent noise."""
    from ...noise import CorrelatedNoise
    from ...noise.wrapped import pixel_noise

    model = pixel_noise(model)
    if not isinstance(model, CorrelatedNoise):
        return {}
    lags = model.autocorrelation(_LAGS)
    return {"x": lags[0, _LAGS:], "y": lags[:, _LAGS]}


def _marginal_density(model: CorrelatedNoise, noisy: NDArray[np.float64], signal: float) -> NDArray[np.float64]:
    """Density of single pixels whose noise is a weighted sum of innovations, where the signal is the same around them.

    The characteristic function of the sum is the product of those of the innovations.
    """
    from ...noise.correlated import impulse_response

    weights = impulse_response(model.coefficients).ravel()
    level = model.dc_gain * signal
    half = _REACH * float(np.sqrt(variance_curve(model, np.array([signal]))[0]))
    step = 2 * half / _POINTS
    grid = np.asarray((np.arange(_POINTS) - _POINTS // 2) * step, dtype=np.float64)  # counts from the signal
    innovation = density_curve(model.innovation, level + grid, level) * step
    transform = np.fft.rfft(np.fft.ifftshift(innovation))
    number = np.arange(len(transform))
    product = np.ones(len(transform), dtype=np.complex128)
    for weight in weights[np.abs(weights) > 1e-3]:
        factor = np.interp(abs(weight) * number, number, transform, right=0)
        product *= factor if weight > 0 else factor.conj()
    found = np.fft.fftshift(np.fft.irfft(product, _POINTS)) / step
    return np.asarray(np.interp(noisy - signal, grid, found).clip(0))


def _edges(values: NDArray[np.float32], signal: float, deviation: float) -> NDArray[np.float64]:
    """Edges of bins that cover the values. Each bin of integers holds the same number of integers."""
    low, high = signal - 4 * deviation, signal + 5 * deviation  # skewed at low photon numbers
    step = (high - low) / _BINS
    if len(values) and np.all(values == np.round(values)):
        step = max(round(step), 1)
        low = np.floor(low) - 0.5
    return np.arange(low, high + step, step)
