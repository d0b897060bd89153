"""The referee: how much better than a blur a model denoises an image, without a truth.

Repeated frames of a static scene tell the error of an estimate: their noise is independent. Otherwise Stein's estimate
tells the difference of two errors (`risk`), and the error of the direct pass on noise that was drawn anew for a sample
of HDN tells the ratio. Where the noise model does not fit the image, there is no judgement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..co_model import CoModel
from ..data.images import Frames, spread_over
from ..noise.scene import FEWEST_FRAMES, frames_of_scene
from ..noise.windows import crop
from ..prediction.predict import predict_steps
from ..prediction.tiling import Output
from ..progress import HARDLY_DB, SAMPLES_OF_MEAN, Best, Progress, Steps, WorkClock, best_result, mean_words
from ..risk import SQUARED_ERROR_UNKNOWN, Probe, Response, blurs, gain, repeated_error, unjudged
from ..system import double

_MOST_PIXELS = 2_000_000
_MOST_SIDE = 1024

Plane = NDArray[np.float32]  # (H, W)
Planes = NDArray[np.float32]  # (P, H, W)


@dataclass(frozen=True, kw_only=True)
class EstimatedGain:
    """How much better than the best Gaussian blur the direct pass is, estimated without a truth."""

    gain_db: float | None = None
    """Ratio of the mean squared errors, dB; None if it cannot be estimated."""
    error_db: float | None = None
    """Its standard error."""
    gain_counts: float | None = None
    """Root of the difference of the mean squared errors, counts; negative if the blur is better."""
    why: str | None = None
    """Why a gain cannot be estimated, and what to do; None if it can."""
    best: Best | None = None
    """What to use as the result, of what was tried; see `best_result`. None if it cannot be estimated."""
    blur_sigma: float | None = None
    """Of the best blur, pixels; 0 for the noisy image itself."""
    over_mean_db: float | None = None
    """Gain of the direct pass over the mean of `SAMPLES_OF_MEAN` samples, dB; None if none were drawn."""
    over_mean_error_db: float | None = None
    """Its standard error."""

    @property
    def words(self) -> str:
        """What to conclude, in one sentence."""
        blur = f"a Gaussian blur of sigma {self.blur_sigma:g} pixels" if self.blur_sigma else "the noisy image itself"
        if self.best is None:
            return f"The quality cannot be estimated. {self.why}"
        if self.gain_db is None:
            if self.gain_counts is not None and self.gain_counts > 0:
                return f"The direct pass is better than {blur}, by {self.gain_counts:.3g} counts (root mean square)"
            return f"{blur[0].upper()}{blur[1:]} does as well as the direct pass"
        found = f"{self.gain_db:.2f} dB (standard error {self.error_db:.2f}) better than {blur}"
        if mean := mean_words(self.gain_db, self.over_mean_db, self.over_mean_error_db):
            return f"{mean}, which is {found}"
        if self.best == "blur" or self.gain_db < HARDLY_DB:
            return f"The direct pass is only {found}: the blur would do"
        return f"The direct pass is {found}"


def referee_steps(
    model: CoModel, frames: Frames, *, samples: int = 0, seed: int = 0
) -> Generator[Progress, None, EstimatedGain]:
    """Estimate how good the direct pass is on planes; a generator of progress.

    Parameters
    ----------
    model
        Trained networks.
    frames
        Noisy planes (P, H, W), counts, all finite. Of many, some are taken, evenly spread, and of large ones a part.
    samples
        Number of posterior samples, 2 or more, from which the mean of `SAMPLES_OF_MEAN` is judged as well; 0 for none.
    seed
        Of all that is drawn: the same seed gives the same result.
    """
    scenes = _scenes(model, frames)
    by_frames = all(len(scene) >= FEWEST_FRAMES for scene in scenes)
    if why := unjudged(model, by_frames=by_frames):
        return EstimatedGain(why=why)
    if by_frames:
        return (yield from _by_frames(model, scenes, samples, seed))
    return (yield from _by_noise(model, np.stack([scene[0] for scene in scenes]), samples, seed))


def _by_frames(
    model: CoModel, scenes: Sequence[Sequence[Plane]], samples: int, seed: int
) -> Generator[Progress, None, EstimatedGain]:
    """Judge the first frame of each scene by the others, whose noise is independent of it."""
    planes = np.stack([scene[0] for scene in scenes])
    others = [double(_tensor(model, np.stack(scene[1:]))) for scene in scenes]
    passes = _Passes(model, 1 + samples, seed)
    direct = yield from passes(planes, "direct")
    mean, fewer = (yield from passes.mean(planes, samples)) if samples else (None, torch.zeros(()))

    def squared_error(estimate: Tensor) -> Tensor:
        return torch.stack([repeated_error(other - one) for one, other in zip(double(estimate), others, strict=True)])

    own, noisy = squared_error(direct), _tensor(model, planes)
    return _judgement(
        own,
        lambda response: (squared_error(response.estimate) - own, 0.0),
        Response(noisy, noisy),
        None if mean is None else Response(mean, mean),
        fewer,
    )


def _by_noise(model: CoModel, planes: Planes, samples: int, seed: int) -> Generator[Progress, None, EstimatedGain]:
    """Judge by the noise model, if it fits."""
    passes = _Passes(model, 4 + 2 * samples, seed)
    direct = yield from passes(planes, "direct")
    probe = Probe.draw(model.noise, _tensor(model, planes), direct, seed)
    shifted = planes + _array(probe.shifted - probe.noisy)
    response = probe.response(direct, (yield from passes(shifted, "direct")))
    clean = yield from passes(planes, "sample")
    generator = torch.Generator(device=clean.device).manual_seed(seed)
    redrawn = yield from passes(_array(model.noise.sample(clean, generator)), "direct")
    redrawn_error = redrawn - clean
    if why := probe.misfit(response, redrawn_error):
        return EstimatedGain(why=why)
    own, mean, fewer = probe.squared_error(response, redrawn_error), None, torch.zeros(())
    if samples:
        estimate, fewer = yield from passes.mean(planes, samples)
        mean = probe.response(estimate, (yield from passes(shifted, "mean", samples)))
    return _judgement(
        own,
        lambda other: probe.pixels(other, response),
        probe.nothing_done,
        mean,
        fewer,
        SQUARED_ERROR_UNKNOWN * float(own.mean()),
    )


def _judgement(
    own: Tensor,
    more: Callable[[Response], tuple[Tensor, float]],
    noisy: Response,
    mean: Response | None,
    fewer: Tensor,
    unknown: float = 0.0,
) -> EstimatedGain:
    """Compare the direct pass with all blurs, and with the mean of samples.

    Parameters
    ----------
    own
        Squared error of the direct pass (P, 1, H, W), counts^2.
    more
        By how much that of another estimate is larger, and the error of its mean that pixels share.
    noisy, mean
        The noisy image, and the mean of samples.
    fewer
        Squared error that the mean has because it is of fewer than `SAMPLES_OF_MEAN` samples, counts^2.
    unknown
        Error of the mean of `own` that pixels share.
    """
    tried = ((sigma, *more(blur)) for sigma, blur in blurs(noisy))
    sigma, worse, shared = min(tried, key=lambda each: float(each[1].mean()))
    found, difference = gain(own, worse, (unknown, shared)), float(worse.mean())
    gain_db, over_mean = None if found is None else found.db, None
    if mean is not None:
        worse, shared = more(mean)
        over_mean = gain(own, worse - fewer, (unknown, shared))
    over = (None, None) if over_mean is None else (over_mean.db, over_mean.error_db)
    best = best_result(gain_db, *over)
    return EstimatedGain(
        gain_db=gain_db,
        error_db=None if found is None else found.error_db,
        gain_counts=math.copysign(math.sqrt(abs(difference)), difference),
        best="blur" if gain_db is None and difference <= 0 else best,
        blur_sigma=sigma,
        over_mean_db=over[0],
        over_mean_error_db=over[1],
    )


class _Passes:
    """Predictions one after another, with progress over all of them."""

    def __init__(self, model: CoModel, total: int, seed: int) -> None:
        self.model, self.seed = model, seed
        self.clock = WorkClock(1000 * total)

    def __call__(self, planes: Planes, output: Output, samples: int = 1) -> Generator[Progress, None, Tensor]:
        """Predict planes (P, H, W): (P, 1, H, W) on the device of the noise model."""
        return (yield from self._predict(planes, [output], samples))[0]

    def mean(self, planes: Planes, samples: int) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
        """Predict the mean of samples, and its variance beyond that of `SAMPLES_OF_MEAN`, counts^2."""
        mean, std = yield from self._predict(planes, ["mean", "sample_std"], samples)
        variance = double(self.model.calibration.undone(std, mean, samples)).square()
        return mean, variance * samples / (samples - 1) * (1 / samples - 1 / SAMPLES_OF_MEAN)

    def _predict(
        self, planes: Planes, outputs: Sequence[Output], samples: int
    ) -> Generator[Progress, None, list[Tensor]]:
        steps = Steps(predict_steps(self.model, planes, outputs, samples=samples, seed=self.seed, measured=True))
        before = self.clock.done
        for progress in steps:
            done = before + round(1000 * samples * progress.fraction)
            if self.clock.tick(done - self.clock.done):
                yield self.clock.progress()
        found = ((output, steps.result[output]) for output in outputs)
        images = [torch.from_numpy(each[0] if output == "sample" else each) for output, each in found]
        return [image[:, None].to(self.model.noise.device) for image in images]


def _scenes(model: CoModel, frames: Frames) -> list[list[Plane]]:
    """Some planes, each with the frames before and after it that show the same scene; all of one shape.

    They are as the networks see them (`NoiseModel.measured`).
    """
    shape = frames.planes.shape
    chosen = spread_over(shape[0], max(_MOST_PIXELS // math.prod(min(side, _MOST_SIDE) for side in shape[1:]), 1))
    part, found = crop(shape, 0), []
    for index in chosen:
        scene = frames_of_scene(frames.planes, int(index), frames.step, part)
        found.append([model.noise.measured(frame[None])[0] for frame in scene])
    return found


def _tensor(model: CoModel, planes: Planes) -> Tensor:
    """Planes (P, H, W) as (P, 1, H, W) on the device of the noise model."""
    return torch.from_numpy(planes)[:, None].to(model.noise.device)


def _array(images: Tensor) -> Planes:
    planes: Planes = images[:, 0].cpu().numpy()
    return planes
