"""Fit a noise model to a calibration: pairs of signals and the noisy values that the camera recorded for them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, uniform_filter
from torch import Tensor

from ..data.images import as_planes, spread_over
from ..errors import ImageError, TrainingError
from .correlation import Whitened, autoregression, correlation_of
from .fit import Autocorrelation, NoiseFit
from .scaled import ScaledCorrelatedNoise, likelier_kind
from .scan import backward_rows, forwards
from .static import is_static
from .tabulated import MixtureNoise
from .windows import as_float, crop, fill
from .wrapped import pixel_noise

_GAUSSIANS = 3
_COEFFICIENTS = 2
_PAIRS = 200_000  # (signal, noisy); more do not change the fit
_BINS = 40
_SMOOTH_SIGMA = 6.0  # pixels; blur that gives the signal of a smooth scene
_EDGE = 12  # pixels; nearer to the edge the blur is biased
_OUTLIER = 10.0  # standard deviations; pixels beyond are defective or hit by a cosmic ray
_ITERATIONS = 200
_PLANES = 16  # whose correlation is measured, and which are whitened

Values = NDArray[np.float32]  # (pairs,)
Plane = NDArray[np.float32]  # (Y, X)


def fit_calibration(
    images: ArrayLike | Sequence[ArrayLike],
    signal: ArrayLike | None = None,
    axes: str | None = None,
    *,
    correlated: bool = False,
) -> NoiseFit:
    """Fit a Gaussian mixture to a calibration (Prakash et al. 2020, PPN2V).

    The correlation of the residual, noisy minus signal, is measured. If neighbouring pixels share noise, an
    autoregressive process is fitted to it, and the mixture to the whitened noisy image given the whitened signal.

    Parameters
    ----------
    images
        One array or a list of arrays, in counts. Without ``signal``, each is a stack of frames of one
        static scene, whose signal is their mean, or planes of smooth scenes, such as a field
        diaphragm out of focus, whose signal is the plane after a Gaussian blur of 6 pixels.
        Pixels that are not finite are left out.
    signal
        Clean image (Y, X) or images, in counts: one for each plane of ``images``, in the same order,
        or one for each group of equally many successive planes.
    axes
        One letter per axis of the images, such as ``"TYX"``; guessed if not given.
    correlated
        Fit correlated noise even if the correlation of neighbours is at most 0.1.

    Returns
    -------
    NoiseFit
        A `MixtureNoise` of 3 Gaussians, or `CorrelatedNoise` with such a mixture as innovation; pairs of signals and
        noisy values; and the correlation.

    Raises
    ------
    ImageError
        If the scene is neither static nor smooth, the shapes do not pair, or no pixel is finite.
    SettingError
        If no stable process has the measured correlation.
    TrainingError
        If the fit diverges.
    """
    many: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
    stacks = [as_planes(image, axes, name=f"calibration image {k + 1}").data for k, image in enumerate(many)]
    clean = None if signal is None else as_planes(signal, name="signal").data
    return calibrate(stacks, clean, correlated=correlated)


def calibrate(
    stacks: Sequence[NDArray[np.generic]], signal: NDArray[np.generic] | None = None, *, correlated: bool = False
) -> NoiseFit:
    """Fit planes (P, Y, X) as `fit_calibration` does, with a signal (P, Y, X) or without."""
    stacks = [_finite(stack) for stack in stacks]
    signal = None if signal is None else _finite(signal)
    static = [signal is None and _shows_one_scene(stack) for stack in stacks]
    if signal is not None:
        parts = [_given(stack, signal) for stack in stacks]
    else:
        parts = [_static(stack) if own else _smooth(stack) for stack, own in zip(stacks, static, strict=True)]
    signals, noisy = (np.concatenate(values) for values in zip(*parts, strict=True))
    white = _fit(signals, noisy, "calibration" if signal is None else "given signals")
    chosen = spread_over(len(stacks), _PLANES)
    most = _PLANES // len(chosen)
    planes = [pair for number in chosen for pair in _planes(stacks[number], signal, static[number], most)]
    return _correlated(white, planes, insist=correlated)


def _correlated(white: NoiseFit, planes: Sequence[tuple[Plane, Plane]], *, insist: bool) -> NoiseFit:
    """Measure the correlation in planes of (signal, noisy), and model it if neighbours share noise or one insists."""
    residuals = [_residual(signal, noisy) for signal, noisy in planes]
    found = correlation_of(residuals)
    if insist and not found.measured:
        raise ImageError(
            "The calibration is too small to measure the correlation of its noise: give more or larger planes, "
            "or fit noise that is independent from pixel to pixel"
        )
    if insist and not found.axes:
        found = Autocorrelation(found.lags, "yx")
    if not found.axes:
        return replace(white, autocorrelation=found)
    coefficients = autoregression(found)
    edge = max(coefficients.shape[0] - 1, coefficients.shape[1] // 2)  # beyond it, whitening needs no reflected pixels
    backward = backward_rows(residuals, coefficients)[0] if found.axes == "x" else None
    parts = []
    for (signal, _), residual in zip(planes, residuals, strict=True):
        pair = [forwards(plane, backward) for plane in (signal, signal + residual)]
        white_pair = Whitened(np.stack(pair), coefficients)
        parts.append(np.stack([white_pair[number][edge:-edge, edge:-edge].ravel() for number in (0, 1)]))
    signals, noisy = np.concatenate(parts, axis=1)
    innovation = _fit(signals, noisy, white.source)
    pairs = [_tensors(signal, residual) for (signal, _), residual in zip(planes, residuals, strict=True)]
    model = likelier_kind(ScaledCorrelatedNoise(innovation.model, coefficients, backward), pairs)
    return replace(
        white,
        model=model,
        signals=innovation.signals / model.dc_gain,
        variances=innovation.variances * model.energy,
        autocorrelation=found,
    )


def _tensors(signal: Plane, residual: Plane) -> tuple[Tensor, Tensor]:
    """The noisy image, without noise where it is missing, and its signal."""
    clean = torch.from_numpy(fill(signal)[0])
    return clean + torch.from_numpy(residual).nan_to_num(0.0), clean


def mixture_of(fit: NoiseFit) -> MixtureNoise:
    """Approximate any noise model by a Gaussian mixture over the signals of its images, for files."""
    if isinstance(fit.model, MixtureNoise):
        return fit.model
    evenly = torch.linspace(*fit.signal_range, _PAIRS // 8)  # covers the whole range of brightness
    signals = torch.cat([torch.from_numpy(fit.pairs[0][: _PAIRS // 2]).clamp(*fit.signal_range), evenly])
    return fit_mixture(signals, pixel_noise(fit.model).sample(signals, torch.Generator().manual_seed(0)))


def fit_mixture(signals: Tensor, noisy: Tensor) -> MixtureNoise:
    """Fit a mixture to (pairs,) signals and noisy values (counts): maximum likelihood by L-BFGS.

    Raises
    ------
    TrainingError
        If the fit diverges.
    """
    low, high = signals.min().item(), signals.max().item()
    if not low < high:
        low, high = low - 0.5, high + 0.5
    t, residual = (signals - low) / (high - low), noisy - signals
    power = float(residual.square().mean())
    # by numpy: the last digits of torch.linalg.lstsq depend on where its arrays lie in memory
    line, squares = torch.stack([torch.ones_like(t), t], 1).double().numpy(), residual.square().double().numpy()
    start, rise = (max(each, 1e-3 * power) for each in np.linalg.lstsq(line, squares, rcond=None)[0].tolist())
    n = _GAUSSIANS
    weight = torch.zeros(3 * n, _COEFFICIENTS)
    apart = torch.linspace(-0.5, 0.5, n)
    weight[:n, 0], weight[:n, 1] = apart * start**0.5, apart * ((start + rise) ** 0.5 - start**0.5)
    weight[n : 2 * n, 0], weight[n : 2 * n, 1] = math.log(start), math.log(rise)
    scale = torch.ones_like(weight)
    scale[:n] = power**0.5  # makes all parameters of order 1
    free = (weight / scale).requires_grad_()
    floor = max(1e-3 * min(start, start + rise), 1e-12)
    optimizer = torch.optim.LBFGS([free], max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = -MixtureNoise.density(free * scale, t, residual, floor).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    diverged = TrainingError("The fit of the noise model diverged: check the calibration for extreme values")
    try:
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    except RuntimeError as error:  # a step length beyond float32
        raise diverged from error
    found = (free * scale).detach()
    if not found.isfinite().all():
        raise diverged
    return MixtureNoise(found, low, high, floor)


def _fit(signals: Values, noisy: Values, source: str) -> NoiseFit:
    """Leave out outliers, fit, and measure the variance in bins of similar signals."""
    usable = np.isfinite(signals) & np.isfinite(noisy)
    if not usable.any():
        raise ImageError("The calibration has no finite pixels with a known signal: give other images")
    signals, noisy = signals[usable], noisy[usable]
    pick = np.random.default_rng(0).permutation(len(signals))[:_PAIRS]
    signals, noisy = signals[pick], noisy[pick]
    order = np.argsort(signals, kind="stable")
    kept, centres, variances = [], [], []
    for part in np.array_split(order, _BINS):
        residual = noisy[part] - signals[part]
        spread = 1.4826 * float(np.median(np.abs(residual))) + 1e-6
        part = part[np.abs(residual) < _OUTLIER * max(spread, 0.5)]
        if len(part):
            kept.append(part)
            centres.append(float(signals[part].mean(dtype=np.float64)))
            variances.append(float(np.square(noisy[part] - signals[part]).mean(dtype=np.float64)))
    use = np.random.default_rng(1).permutation(np.concatenate(kept))
    signals, noisy = signals[use], noisy[use]
    model = fit_mixture(torch.from_numpy(signals), torch.from_numpy(noisy))
    return NoiseFit(
        model=model,
        signals=np.array(centres),
        variances=np.array(variances),
        signal_range=(model.min_signal, model.max_signal),
        pairs=(signals, noisy),
        source=source,
    )


def _finite(stack: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same counts, with NaN for pixels that cannot be used."""
    return as_float(stack) if stack.dtype.kind == "f" else stack


def _shows_one_scene(stack: NDArray[np.generic]) -> bool:
    if len(stack) == 1:
        return False
    mean = stack.mean(axis=0, dtype=np.float32)
    tried = spread_over(len(stack), 9)
    return all(is_static(stack[index].astype(np.float32), mean) for index in tried)


def _planes(
    stack: NDArray[np.generic], signal: NDArray[np.generic] | None, static: bool, most: int
) -> Iterator[tuple[Plane, Plane]]:
    """Read some planes of (signal, noisy) as `_given`, `_static` and `_smooth` do; of large ones, a part."""
    mean = stack.mean(axis=0, dtype=np.float64).astype(np.float32) if static else None
    for index in spread_over(len(stack), most):
        noisy = stack[index].astype(np.float32)
        if signal is not None:
            clean = signal[index // (len(stack) // len(signal))].astype(np.float32)
        elif mean is not None:
            clean = mean
            noisy = clean + (noisy - clean) * np.float32(math.sqrt(len(stack) / (len(stack) - 1)))
        else:
            inside = slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE)
            clean, noisy = _blurred(noisy)[inside], noisy[inside]
        part = crop(stack.shape, index)
        yield clean[part], noisy[part]


def _residual(signal: Plane, noisy: Plane) -> Plane:
    """Noise without offsets of rows and columns, with NaN for pixels that are defective or hit by a cosmic ray."""
    residual = noisy - signal
    size, _ = fill(np.abs(residual))
    spread = 1.2533 * uniform_filter(size, 16)  # the std is 1.25 times the mean absolute value
    residual = np.where(size > _OUTLIER * np.maximum(spread, 0.5), np.float32(np.nan), residual)
    for axis in (0, 1):
        shown = np.count_nonzero(np.isfinite(residual), axis=axis, keepdims=True)
        residual = residual - np.nansum(residual, axis=axis, keepdims=True) / np.maximum(shown, 1).astype(np.float32)
    return residual


def _static(stack: NDArray[np.generic]) -> tuple[Values, Values]:
    """Pairs with the mean over frames as the signal.

    Each frame is part of the mean, which makes its residual too small by the factor sqrt((frames - 1) / frames).
    """
    frames = len(stack)
    mean = stack.mean(axis=0, dtype=np.float64)
    rng = np.random.default_rng(0)
    frame, row, column = (rng.integers(0, side, _PAIRS) for side in stack.shape)
    signal = mean[row, column]
    residual = (stack[frame, row, column] - signal) * math.sqrt(frames / (frames - 1))
    return signal.astype(np.float32), (signal + residual).astype(np.float32)


def _smooth(stack: NDArray[np.generic]) -> tuple[Values, Values]:
    """Pairs with the blurred plane as the signal."""
    signals, noisy = [], []
    for number, plane in enumerate(stack):
        if min(plane.shape) < 4 * _EDGE:
            raise ImageError(
                f"Expected a calibration of at least {4 * _EDGE} x {4 * _EDGE} pixels, found {_size(stack)}: "
                "give larger planes, or several frames of one static scene"
            )
        plane = plane.astype(np.float32)
        signal = _blurred(plane)
        if not is_static(plane, signal):
            found = f"structure in plane {number + 1} of {len(stack)}"
            raise ImageError(
                f"Expected a calibration of one static scene or of smooth scenes, found {found} finer than "
                f"{_SMOOTH_SIGMA:g} pixels: give frames of one scene, or an image of the field diaphragm out of focus"
            )
        inside = slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE)
        signals.append(signal[inside].ravel())
        noisy.append(plane[inside].ravel())
    return np.concatenate(signals), np.concatenate(noisy)


def _blurred(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gaussian blur of the pixels that are not NaN."""
    shown = ~np.isnan(plane)
    if shown.all():
        return np.asarray(gaussian_filter(plane, _SMOOTH_SIGMA))
    total = gaussian_filter(np.where(shown, plane, np.float32(0)), _SMOOTH_SIGMA)
    weight = gaussian_filter(shown.astype(np.float32), _SMOOTH_SIGMA)
    return np.where(shown, total / np.maximum(weight, 1e-6), np.float32(np.nan))


def _given(stack: NDArray[np.generic], signal: NDArray[np.generic]) -> tuple[Values, Values]:
    """Pairs of given signals and random pixels."""
    if stack.shape[1:] != signal.shape[1:] or len(stack) % len(signal):
        raise ImageError(
            f"Expected noisy planes that pair with the signal, found {len(stack)} planes of {_size(stack)} and "
            f"{len(signal)} of {_size(signal)}: give one signal for all planes, or one for each"
        )
    runs = len(stack) // len(signal)
    rng = np.random.default_rng(0)
    plane, row, column = (rng.integers(0, side, _PAIRS) for side in stack.shape)
    clean, noisy = signal[plane // runs, row, column], stack[plane, row, column]
    return clean.astype(np.float32), noisy.astype(np.float32)


def _size(stack: NDArray[np.generic]) -> str:
    return " x ".join(map(str, stack.shape[1:]))
