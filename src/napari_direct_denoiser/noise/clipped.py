"""Clipped pixels: a camera records no value below a limit, so that dark parts of its images are too bright."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from ..data.images import Frames
from ..errors import ImageError, SettingError
from .estimation import HIDDEN, NORMAL, fit_images
from .fit import NoiseFit
from .models import NoiseModel
from .recording import CLIPPED, measure_recording, sampled_planes
from .windows import as_float, fill
from .wrapped import PlanesWhenRead, WholePlaneNoise

_STEPS = 2.0  # least noise in the dark, steps of the values: photons that are counted have less
_BLUR = 2.0  # sigma, pixels, of the mean around a pixel
_REACH = 8  # pixels that it looks at on each side
_SIGNALS = np.linspace(-1.0, 6.0, 701)  # standard deviations above the limit; of darker ones hardly a pixel shows
_DENSITY = np.exp(-0.5 * _SIGNALS**2) / math.sqrt(2 * math.pi)
_MEANS = _SIGNALS * ndtr(_SIGNALS) + _DENSITY  # of pixels after clipping, above the limit
_BELOW = _SIGNALS - _DENSITY / ndtr(-_SIGNALS)  # of pixels that were clipped, before clipping
_ROUNDS = 2  # the standard deviation depends on the signal

Plane = NDArray[np.float32]  # (Y, X)


class ClippedNoise(WholePlaneNoise):
    """Noise of images in which pixels are clipped at ``low``.

    `measured` replaces clipped pixels by the mean of the values that they may have had. The signal around a pixel comes
    from the mean of its neighbours, clipped pixels included: that of a censored normal distribution (Tobin 1958). Its
    mean below the limit follows. Where hardly a pixel around shows, as in a black border, nothing is known, and pixels
    stay at the limit. Everything else is about images without clipping, and so is the noise of the base.

    Parameters
    ----------
    base
        Model of the noise before clipping, or its `document`.
    low
        Value (counts) at and below which pixels are clipped.
    step
        Distance of the values that the camera records (counts), of which replaced ones are multiples too; 0 if any
        value is possible.

    Raises
    ------
    SettingError
        If the limit or the step is not finite, or the step is negative.
    """

    kind = "clipped"

    def __init__(self, base: NoiseModel | dict[str, Any], low: float, step: float = 0.0) -> None:
        super().__init__(base)
        self.low, self.step = float(low), float(step)
        if not (math.isfinite(self.low) and math.isfinite(self.step) and self.step >= 0):
            raise SettingError(
                f"Expected a finite limit of clipped pixels, and a step of at least 0 counts, found {low:g} and "
                f"{step:g}: correct the noise model"
            )

    def with_base(self, base: NoiseModel) -> ClippedNoise:
        return ClippedNoise(base, self.low, self.step)

    def measured(self, planes: NDArray[Any]) -> NDArray[Any]:
        return self.base.measured(self.unclipped(planes))

    def unclipped(self, planes: NDArray[Any]) -> NDArray[Any]:
        """Planes (P, Y, X) without clipped pixels, float32; each is computed when it is read."""
        return cast("NDArray[Any]", _Unclipped(planes, self))

    def without_clipping(self, plane: Plane) -> Plane:
        """Replace the clipped pixels of a plane."""
        at = plane <= self.low
        if not at.any():
            return plane
        above = gaussian_filter(fill(plane)[0] - self.low, _BLUR, mode="reflect", radius=_REACH)[at].astype(np.float64)
        signal = np.full(above.shape, self.low)
        for _ in range(_ROUNDS):
            std = self._std(signal)
            signals = np.interp(above / std, _MEANS, _SIGNALS)
            signal = self.low + std * signals.clip(0.0)
        seen = np.minimum(above / (std * _MEANS[0]), 1.0)
        below = seen * std * np.interp(signals, _SIGNALS, _BELOW)
        replaced = plane.copy()
        replaced[at] = self.low + (np.round(below / self.step) * self.step if self.step else below)
        return replaced

    def _std(self, signal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard deviation of the noise (counts)."""
        variance = self.base.variance(torch.from_numpy(signal).float().to(self.base.device))
        return np.sqrt(np.maximum(variance.cpu().numpy().astype(np.float64), 1e-30))

    def document(self) -> dict[str, Any]:
        return {"kind": self.kind, "base": self.base.document(), "low": self.low, "step": self.step}

    def describe(self) -> str:
        return f"{self.base.describe()}, clipped at {self.low:g}"


def fit_clipped(
    given: NoiseModel | None,
    stacks: Sequence[Frames],
    fit_pixels: Callable[[NoiseModel | None, Sequence[Frames]], NoiseFit],
) -> NoiseFit:
    """Find out whether pixels are clipped, and fit the noise of images without clipping.

    That is where 1 to 70 % of the pixels are at the lowest value, with a noise of over 2 electrons and 2 steps of the
    values in the dark. Saturation is left alone: the brightness beyond it that the networks would guess made the result
    worse (two-photon images of FMD: 34.0 dB, without 34.5 dB).

    Parameters
    ----------
    given
        The noise model if it is known, which stays as it is.
    stacks
        The noisy images.
    fit_pixels
        Fits the noise of pixels, or compares a given model with it.
    """
    if isinstance(given, ClippedNoise):
        return replace(fit_pixels(given.base, _unclipped(given, stacks)), model=given)
    clipped = None if given is not None else _measure_clipping(stacks)
    if clipped is None:
        return fit_pixels(given, stacks)
    fit = fit_pixels(None, _unclipped(clipped, stacks))
    return replace(fit, model=clipped.with_base(fit.model))


def _measure_clipping(stacks: Sequence[Frames]) -> ClippedNoise | None:
    """The limit, with a first estimate of the noise; None if nothing is clipped or the noise cannot be estimated."""
    found = measure_recording(sampled_planes([stack for stack in stacks if len(stack.planes)]))
    if found.low is None or not CLIPPED < found.low.share <= HIDDEN:
        return None
    try:
        model = fit_images(stacks).model
    except ImageError:
        return None
    return ClippedNoise(model, found.low.value, found.step) if _is_normal(model, found.low.value, found.step) else None


def _unclipped(model: ClippedNoise, stacks: Sequence[Frames]) -> list[Frames]:
    return [Frames(model.unclipped(stack.planes), stack.step) for stack in stacks]


def _is_normal(model: NoiseModel, low: float, step: float) -> bool:
    """Whether the noise of pixels at the limit is that of a camera, and not of single photons or of rounding."""
    slope, _ = model.linear_variance()
    variance = float(model.variance(torch.tensor([low]).to(model.device)))
    return variance > max(NORMAL * slope**2, (_STEPS * step) ** 2)


class _Unclipped(PlanesWhenRead):
    """Planes (P, Y, X) without clipped pixels, float32."""

    def __init__(self, planes: NDArray[Any], noise: ClippedNoise) -> None:
        super().__init__(planes)
        self._noise = noise

    def _read(self, index: int, rows: slice, columns: slice) -> Plane:
        sides = zip((rows, columns), self.shape[1:], strict=True)
        (top, bottom, _), (left, right, _) = (part.indices(side) for part, side in sides)
        above, before = max(top - _REACH, 0), max(left - _REACH, 0)
        wide = self._planes[index, above : bottom + _REACH, before : right + _REACH]
        plane = self._noise.without_clipping(as_float(wide))
        return np.asarray(plane[top - above : bottom - above, left - before : right - before])
