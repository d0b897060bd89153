"""A noise model with the evidence that it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from .models import NoiseModel, PoissonGaussianNoise

Correlation = tuple[tuple[float, float], tuple[float, float]]
_COVERED = 0.5  # part of the pixels whose brightness a calibration has to cover


@dataclass(frozen=True, eq=False)
class NoiseFit:
    """What a noise model was fitted to, or is to be compared with; all in counts, or powers of them."""

    model: NoiseModel
    signals: NDArray[np.float64]
    """(bins,) signals at which the variance was measured."""
    variances: NDArray[np.float64]
    """(bins,) variances that were measured there."""
    signal_range: tuple[float, float]
    """Lowest and highest signal of the images."""
    pairs: tuple[NDArray[np.float32], NDArray[np.float32]]
    """(pairs,) signals as far as they are known, and the noisy values there: for a histogram."""
    source: str
    """Where the noise was found, in words."""
    correlation: Correlation = ((0.0, 0.0), (0.0, 0.0))
    """Of the noise with that 1 and 2 pixels further along x, and along y."""
    hot_pixels: int = 0
    """How many pixels stick out of their neighbours in most planes."""

    @classmethod
    def without_evidence(cls, model: NoiseModel) -> NoiseFit:
        """A model given by hand for images that tell nothing of their noise."""
        nothing, none = np.empty(0), np.empty(0, dtype=np.float32)
        return cls(model, nothing, nothing, (0.0, 0.0), (none, none), "nothing")

    def camera(self) -> tuple[float | None, float | None, float]:
        """Gain, offset and read noise, counts, that come closest; no gain and offset if the variance does not rise."""
        if isinstance(self.model, PoissonGaussianNoise):
            return self.model.gain, self.model.offset, self.model.read_noise
        slope, intercept = self.model.linear_variance()
        if slope > 0 and len(self.signals) > 2:
            slope, intercept = robust_line(self.signals, self.variances, np.ones_like(self.signals))
        if slope <= 0:
            return None, None, max(intercept, 0.0) ** 0.5
        return slope, -intercept / slope, max(intercept + slope * self.signal_range[0], 0.0) ** 0.5

    def outside(self) -> tuple[float, float]:
        """Part of the pixels, 0 to 1, that are darker, and brighter, than the signals that the model was fitted to."""
        fitted, signals = self.model.signal_range, self.pairs[0]
        if fitted is None or not len(signals):
            return 0.0, 0.0
        return float(np.mean(signals < fitted[0])), float(np.mean(signals > fitted[1]))

    def check_range(self) -> None:
        """Refuse a calibration that covers less than half of the pixels: `SettingError`."""
        below, above = self.outside()
        if below + above > 1 - _COVERED and self.model.signal_range is not None:
            raise SettingError(
                f"Expected a noise model for signals of {_range(self.signal_range)} counts, found one fitted to "
                f"{_range(self.model.signal_range)}: {self.missing()} is missing; calibrate with such brightness, "
                "or estimate the noise from the image"
            )

    def missing(self) -> str:
        """The part of the brightness of the images that the model was not fitted to, in words."""
        assert self.model.signal_range is not None
        low, high = self.model.signal_range
        below, above = self.outside()
        parts = [f"{_range((self.signal_range[0], low))} counts ({below:.0%} of the pixels)"] if below > 0.01 else []
        parts += [f"{_range((high, self.signal_range[1]))} counts ({above:.0%} of the pixels)"] if above > 0.01 else []
        return " and ".join(parts)


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:.4g} to {limits[1]:.4g}"


def robust_line(
    signals: NDArray[np.float64], variances: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[float, float]:
    """Slope and intercept of variances over signals (bins,) by iterated weighted least squares.

    A mean square of ``counts`` values varies with its expectation; bins far from the line are doubted.
    """
    design = np.stack([signals, np.ones_like(signals)], 1)
    lowest = float(np.mean(variances)) * 1e-3 + 1e-12
    fitted, doubt = np.full_like(variances, max(float(np.median(variances)), lowest)), np.ones_like(variances)
    slope = intercept = 0.0
    for _ in range(20):
        root = np.sqrt(counts * doubt) / fitted
        slope, intercept = np.linalg.lstsq(design * root[:, None], variances * root, rcond=None)[0]
        fitted = np.maximum(slope * signals + intercept, lowest)
        excess = variances / fitted - 1
        scale = 1.4826 * np.median(np.abs(excess)) + 1e-3
        doubt = 1 / (1 + (excess / (2 * scale)) ** 2)
    return float(slope), float(intercept)
