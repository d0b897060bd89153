"""Errors of the direct pass and of means of samples, without a truth: their difference, and the gain over a blur.

The gain is the referee's. The difference between the direct pass and a mean is Stein's estimate (`risk`), of the very
images that are compared: a few samples tell how the mean changes with the noise.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.images import Frames, PlaneStack, spread_over
from ..noise.windows import crop
from ..prediction.predict import predict_steps
from ..progress import Progress, Steps, WorkClock
from ..risk import Probe, Response, RiskDifference
from .compare import Judged, Row
from .referee import EstimatedGain, referee_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..co_model import CoModel
    from ..prediction.tiling import Output

_SAMPLES = 8  # whose change with the noise stands for that of a mean of many
_SEED = 1
_MOST_PIXELS = 2_000_000  # of all planes that are judged for a table


@dataclass(frozen=True, eq=False)
class EstimatedErrors:
    """What is known of errors without a truth.

    Attributes
    ----------
    gain
        Of the direct pass over the best blur, or why it cannot be estimated.
    differences
        Mean squared error of the direct pass minus that of each mean, counts^2; empty if they cannot be estimated.
    """

    gain: EstimatedGain
    differences: tuple[RiskDifference, ...] = ()

    @property
    def direct_mse(self) -> float | None:
        """Mean squared error of the direct pass, counts^2: that at which it is so much better than the blur."""
        gain_db, gain = self.gain.gain_db, self.gain.gain_counts
        if not gain_db or not gain:
            return None
        return math.copysign(gain**2, gain) / (10 ** (gain_db / 10) - 1)

    def gain_of(self, mean: int) -> tuple[float, float] | None:
        """Gain of a mean over the best blur, and its standard error, dB; None if it is not known."""
        own, gain = self.direct_mse, self.gain
        if own is None or gain.gain_db is None or gain.error_db is None:
            return None
        difference, error = self.differences[mean]
        if own - difference <= 0:
            return None
        worse = 10 * math.log10((own - difference) / own)
        return gain.gain_db - worse, math.hypot(gain.error_db, 10 / math.log(10) * error / (own - difference))


def estimated_errors_steps(
    model: CoModel, planes: NDArray[Any], direct: NDArray[Any] | None = None, means: Sequence[NDArray[Any]] = ()
) -> Generator[Progress, None, EstimatedErrors]:
    """Estimate the errors of the direct pass and of means of samples; a generator of progress.

    Parameters
    ----------
    model
        Trained networks, of which the results are.
    planes
        Noisy planes (P, H, W), counts. Of large ones a part is used.
    direct
        The direct pass of the planes; computed if not given.
    means
        Means of samples of the planes, each of as many as it may be.
    """
    part = (slice(None), *crop(planes.shape, 0))
    gain = yield from referee_steps(model, Frames(planes[part]))
    if not means or gain.why is not None:
        return EstimatedErrors(gain)
    noise = model.noise

    def tensor(images: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.asarray(images, np.float32))[:, None].to(noise.device)

    def result(images: NDArray[Any]) -> Tensor:
        return tensor(noise.at_measured(images[part]))

    found = noise.measured(planes[part])
    planes, clock = np.stack([found[at] for at in range(len(found))]), WorkClock(2 + 2 * _SAMPLES)

    def predicted(image: NDArray[Any], output: Output, samples: int = 1) -> Generator[Progress, None, Tensor]:
        steps = Steps(predict_steps(model, image, [output], samples=samples, seed=_SEED, measured=True))
        for _ in steps:
            if clock.tick(0):
                yield clock.progress()
        clock.tick(samples)
        return tensor(steps.result[output])

    passed = yield from predicted(planes, "direct")
    own = passed if direct is None else result(direct)
    probe = Probe.draw(noise, tensor(planes), own)
    shifted = planes + (probe.shifted - probe.noisy)[:, 0].cpu().numpy()
    response = probe.response(passed, (yield from predicted(shifted, "direct")))
    mean = yield from predicted(planes, "mean", _SAMPLES)
    product = probe.response(mean, (yield from predicted(shifted, "mean", _SAMPLES))).product
    response = Response(own, response.product)
    differences = (probe.difference(response, Response(result(each), product)) for each in means)
    return EstimatedErrors(gain, tuple(differences))


def with_estimated_gains(
    model: CoModel, noisy: PlaneStack, results: Sequence[Judged], rows: Sequence[Row], own: Sequence[bool]
) -> Generator[Progress, None, list[Row]]:
    """Estimate the gain over the best blur for the rows of a table; a generator of progress.

    Parameters
    ----------
    model
        Trained networks.
    noisy
        The noisy planes. Of many, some are taken, evenly spread.
    results, rows
        The results that are compared, and their rows.
    own
        Whether each of them was made by this model.
    """
    chosen = spread_over(len(noisy), max(_MOST_PIXELS // noisy[0].size, 1))

    def stack(planes: PlaneStack) -> NDArray[Any]:
        return np.stack([planes[int(at)] for at in chosen])

    judged = [result.method if mine else None for result, mine in zip(results, own, strict=True)]
    direct = next((stack(results[at].planes) for at, method in enumerate(judged) if method == "direct"), None)
    means = [stack(result.planes) for result, method in zip(results, judged, strict=True) if method == "mean"]
    errors = yield from estimated_errors_steps(model, stack(noisy), direct, means)
    number, found = 0, []
    for row, method in zip(rows, judged, strict=True):
        gain: tuple[float, float] | None = None
        why = errors.gain.why or "No gain over a blur could be estimated."
        if method == "direct" and errors.gain.gain_db is not None and errors.gain.error_db is not None:
            gain = errors.gain.gain_db, errors.gain.error_db
        elif method == "mean":
            gain = errors.gain_of(number) if errors.differences else None
            number += 1
        elif method != "direct":
            why = "Only the direct pass and means of samples of the chosen model can be judged without a truth."
        db, error = gain or (None, None)
        reason = why if gain is None else None
        found.append(replace(row, estimated_gain_db=db, estimated_gain_error_db=error, estimated_gain_why=reason))
    return found
