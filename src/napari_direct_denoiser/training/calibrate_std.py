"""Calibration of predicted standard deviations without the truth.

How large the error of the direct pass is, is found in two ways:

- **Redrawn noise**: a posterior sample of HDN is taken for a signal, noise is drawn for it, and the direct pass
  denoises it. Its error is known then. This error is as large as the real one only as far as samples of HDN look like
  the signal. They miss structure that HDN never draws, and have some that is not there.
- **Neighbours**: Stein's estimate of the covariance of the errors of two neighbouring pixels, divided by their
  correlation with redrawn noise. The covariance hardly depends on the variance of the noise model, which would have to
  be right to a few parts in a thousand to give the error of a single pixel. It depends on the noise model saying right
  how much noise neighbours share.

The two err for different reasons. Their mean is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..co_model import CoModel
from ..data.images import PlaneStack, middle, sampled_planes
from ..risk import Probe
from ..std_calibration import Curve, StdCalibration
from ..system import double

_PIXELS = 500_000  # measured, of all planes
_SIDE = 512  # pixels; of larger planes the middle is measured
_SAMPLES_SIDE = 256  # the same for samples, which take long
_EDGE = 8  # pixels that are left out: predictions are worse there
_BIN_PIXELS = 50_000
_MOST_BINS = 4
_LAGS = ((0, 1), (1, 0), (1, 1))  # neighbours, pixels down and to the right
_NEIGHBOURS_RANGE = 0.25, 4.0  # of the squared error of neighbours over that with redrawn noise: beyond, noise is wrong
_SAMPLES = 8
_SAMPLES_RANGE = 0.25, 16.0  # of the factor of the variance of samples


class _Measured(NamedTuple):
    """What is known of one plane; all (1, 1, H, W) counts."""

    direct: Tensor
    std: Tensor
    residual: Tensor
    """Noisy image minus direct prediction."""
    noise: Tensor
    """Independent noise b."""
    product: Tensor
    """Jacobian product of the direct pass and b."""
    redrawn_direct: Tensor
    redrawn_std: Tensor
    redrawn_error: Tensor


def calibrate_std(model: CoModel, stacks: Sequence[PlaneStack], seed: int = 0) -> StdCalibration:
    """Find the factors that make the predicted standard deviations of a model as large as its errors.

    Parameters
    ----------
    model
        Trained networks.
    stacks
        Noisy images (planes, Y, X), counts. Some planes are read.
    seed
        Of samples and noise.

    Returns
    -------
    StdCalibration
        That which changes nothing for a model that predicts no standard deviation, or where noise cannot be drawn anew.
    """
    if not model.has_std or model.config.hdn.structured:
        return StdCalibration()
    generator = torch.Generator(device=model.device).manual_seed(seed)
    training, before = model.training, model.std_calibration
    model.eval()
    model.std_calibration = (
        StdCalibration()
    )  # what is predicted is measured, not what an earlier calibration made of it
    with torch.no_grad():
        noisy = list(_planes(model, stacks))
        factor = _factor([_measure(model, each, generator) for each in noisy], white=model.noise.reach == 0)
        found = StdCalibration(signal=factor)
        found = found.model_copy(update={"samples": _samples_factor(model, found, noisy[0], seed)})
    model.train(training)
    model.std_calibration = before
    return found


def _planes(model: CoModel, stacks: Sequence[PlaneStack]) -> Iterator[Tensor]:
    """The middle of some planes, (1, 1, H, W)."""
    most = max(round(_PIXELS / min(stacks[0][0].size, _SIDE**2)), 1)
    for plane in sampled_planes(stacks, most):
        yield _middle(torch.from_numpy(plane)[None, None].to(model.device), _SIDE, model.multiple)


def _middle(image: Tensor, most: int, multiple: int) -> Tensor:
    """The middle of images (..., H, W), see `images.middle`."""
    rows, columns = (middle(side, most, multiple) for side in image.shape[-2:])
    return image[..., rows, columns]


def _measure(model: CoModel, noisy: Tensor, generator: torch.Generator) -> _Measured:
    direct, std = model.direct_with_std(noisy)
    seed = int(torch.randint(2**31, (), generator=generator, device=model.device))
    probe = Probe.draw(model.noise, noisy, direct, seed)
    product = probe.response(direct, model.direct(probe.shifted)).product
    sample = model.sample(model.encode(noisy), [generator])
    redrawn_direct, redrawn_std = model.direct_with_std(model.noise.sample(sample, generator))
    found = (direct, std, noisy - direct, probe.noise, product, redrawn_direct, redrawn_std, redrawn_direct - sample)
    return _Measured(*map(_inner, found))


def _factor(planes: Sequence[_Measured], *, white: bool) -> Curve:
    """Error over predicted standard deviation, in bins of the direct prediction with about equally many pixels.

    `white` says that by the noise model neighbours share no noise.
    """
    pixels = double(torch.cat([plane.direct.flatten() for plane in planes]))
    bins = min(max(len(pixels) // _BIN_PIXELS, 1), _MOST_BINS)
    edges = torch.from_numpy(np.quantile(pixels.cpu().numpy(), np.linspace(0, 1, bins + 1)[1:-1])).to(pixels)
    here = [torch.bucketize(double(plane.direct), edges) for plane in planes]
    redrawn = [torch.bucketize(double(plane.redrawn_direct), edges) for plane in planes]
    error = _mean([plane.redrawn_error.square() for plane in planes], redrawn, bins)
    variance = _mean([plane.redrawn_std.square() for plane in planes], redrawn, bins)
    neighbours = torch.stack([_neighbours(planes, here, redrawn, bins, lag, white=white) for lag in _LAGS])
    ratio = neighbours.median(0).values.nan_to_num(1.0).clamp(*_NEIGHBOURS_RANGE)
    values = (error / variance * (1 + ratio) / 2).sqrt().cpu().numpy()
    knots = _mean([plane.direct for plane in planes], here, bins).cpu().numpy()
    good: NDArray[np.bool_] = np.isfinite(values) & np.isfinite(knots)
    if not good.any():
        return Curve()
    return Curve(tuple(knots[good].tolist()), tuple(values[good].tolist()))


def _neighbours(
    planes: Sequence[_Measured],
    here: Sequence[Tensor],
    redrawn: Sequence[Tensor],
    bins: int,
    lag: tuple[int, int],
    *,
    white: bool,
) -> Tensor:
    """Covariance of the errors of neighbours over that with redrawn noise, in each bin, (bins,)."""
    real, simulated = [], []
    for plane in planes:
        residual, noise, product, error = (
            _pair(each, lag) for each in (plane.residual, plane.noise, plane.product, plane.redrawn_error)
        )
        shared = 0 if white else noise[0] * noise[1]
        real.append(residual[0] * residual[1] - shared + noise[0] * product[1] + noise[1] * product[0])
        simulated.append(error[0] * error[1])
    covariance = _mean(real, [_pair(each, lag)[0] for each in here], bins)
    expected = _mean(simulated, [_pair(each, lag)[0] for each in redrawn], bins)
    return covariance / expected


def _pair(image: Tensor, lag: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """All pixels that have such a neighbour, and their neighbours."""
    (down, right), (height, width) = lag, image.shape[-2:]
    return image[..., : height - down, : width - right], image[..., down:, right:]


def _mean(values: Sequence[Tensor], bin: Sequence[Tensor], bins: int) -> Tensor:
    """Mean in each bin (bins,), float64; not a number where there is no pixel."""
    numbers = torch.cat([each.flatten() for each in bin])
    pixels = double(torch.cat([each.flatten() for each in values]))
    return torch.zeros(bins, dtype=torch.float64, device=pixels.device).index_add_(0, numbers, pixels) / torch.bincount(
        numbers, minlength=bins
    )


def _samples_factor(model: CoModel, found: StdCalibration, noisy: Tensor, seed: int) -> float:
    """Error of the mean of many samples of an image (1, 1, H, W) over their standard deviation.

    Its squared error is that of the direct pass and Stein's estimate of the difference.
    """

    def draw(image: Tensor) -> Tensor:
        generators = [torch.Generator(device=model.device).manual_seed(seed + number) for number in range(_SAMPLES)]
        return model.sample(model.encode(image), generators)

    noisy = _middle(noisy, _SAMPLES_SIDE, model.multiple)
    direct, std = model.direct_with_std(noisy)
    probe = Probe.draw(model.noise, noisy, direct, seed)
    variance, mean = torch.var_mean(draw(noisy), 0, keepdim=True)
    pixels, _ = probe.pixels(
        probe.response(mean, draw(probe.shifted).mean(0, keepdim=True)),
        probe.response(direct, model.direct(probe.shifted)),
    )
    spread = float(_inner(variance).mean())
    error = float(_inner(pixels).mean()) + float(_inner(found.corrected(std, direct)).square().mean())
    error -= spread / _SAMPLES
    return float(np.clip(error / spread, *_SAMPLES_RANGE)) ** 0.5 if spread > 0 else 1.0


def _inner(image: Tensor) -> Tensor:
    return image[..., _EDGE:-_EDGE, _EDGE:-_EDGE]
