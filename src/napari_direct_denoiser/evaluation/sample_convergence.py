"""The mean of a growing number of posterior samples beside the direct pass (Figure 1 and Table 1 of the paper)."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import CompareSettings
from ..prediction.predict import Prediction, predict_steps
from ..prediction.statistics import merged
from ..progress import Progress, Steps
from .compare import Judged

if TYPE_CHECKING:
    from ..co_model import CoModel
    from ..prediction.tiling import Output

_WARM_UP = 128  # side in pixels of the part that is denoised before times are taken
_SMALLEST_DEVIATION = 1e-3  # of its mean: units of the disagreement where the deviation is 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot(Progress):
    """Progress with the results so far: float32 (P, H, W) in image units.

    Attributes
    ----------
    samples
        Number of samples drawn so far.
    direct, sample, mean
        The direct pass, the first sample, and the mean of all samples so far.
    deviation
        See `SampleConvergence.deviation`.
    """

    samples: int
    direct: NDArray[np.float32]
    sample: NDArray[np.float32]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class SampleConvergence:
    """Means of the first N posterior samples, and the direct pass: float32 (P, H, W) in image units.

    Attributes
    ----------
    samples
        The numbers N, rising.
    means
        The mean of the first N samples, for each N.
    seconds
        Time to draw the first N samples, for each N.
    sample
        The first sample.
    std
        Standard deviation of all samples at each pixel. None for a single sample.
    direct
        The direct pass.
    direct_std
        Standard deviation of its error, from the same pass; None if the model does not predict it.
    direct_seconds
        Time of the direct pass.
    """

    samples: tuple[int, ...]
    means: tuple[NDArray[np.float32], ...]
    seconds: tuple[float, ...]
    sample: NDArray[np.float32]
    std: NDArray[np.float32] | None
    direct: NDArray[np.float32]
    direct_std: NDArray[np.float32] | None
    direct_seconds: float

    @property
    def deviation(self) -> NDArray[np.float32] | None:
        """The expected deviation from the truth at each pixel: that of the direct pass, or else that of the samples."""
        return self.std if self.direct_std is None else self.direct_std

    @property
    def disagreement(self) -> NDArray[np.float32] | None:
        """The direct pass minus the mean of all samples, in units of the expected deviation."""
        if self.deviation is None:
            return None
        floor = _SMALLEST_DEVIATION * float(self.deviation.mean()) or 1.0
        unit = np.maximum(self.deviation, floor)
        found: NDArray[np.float32] = ((self.direct - self.means[-1]) / unit).astype(np.float32)
        return found

    def judged(self) -> list[Judged]:
        """The means and then the direct pass, as results to compare."""
        means = zip(self.samples, self.means, self.seconds, strict=True)
        rows = [Judged(mean, "mean", n, seconds, f"HDN mean (N={n})") for n, mean, seconds in means]
        return [*rows, Judged(self.direct, "direct", 0, self.direct_seconds, "direct")]


def sample_convergence_steps(
    model: CoModel, planes: NDArray[Any], samples: Sequence[int] = CompareSettings().samples
) -> Generator[Progress, None, SampleConvergence]:
    """Compute the direct pass and means of a growing number of samples; a generator of progress.

    Each sample is drawn once: the mean of 100 contains the samples of the mean of 10. Times are those of denoising
    alone. A small part of the first plane is denoised before, so that they do not include the start of the device.

    Parameters
    ----------
    model
        Trained networks.
    planes
        Noisy planes (P, H, W).
    samples
        Numbers of samples of which to take the mean, rising, as in `CompareSettings`.

    Yields
    ------
    Progress
        Over all passes through a network. After the first sample, and whenever their number has doubled, a `Snapshot`.

    Raises
    ------
    SettingError, ImageError, DenoiserError
        As `predict_steps`.
    """
    counts = tuple(samples)
    follow = _Follow(1 + counts[-1])
    for _ in predict_steps(model, planes[:1, :_WARM_UP, :_WARM_UP], ["direct", "mean"], samples=1):
        yield Progress(fraction=0.0, elapsed_seconds=0.0, remaining_seconds=None)  # so that the caller can stop
    outputs: list[Output] = ["direct", "std"] if model.has_std else ["direct"]
    result, direct_seconds = yield from follow(predict_steps(model, planes, outputs), 1)
    direct, direct_std = result["direct"], result.get("std")
    mean, squares = np.zeros_like(direct), np.zeros_like(direct)
    means, times, seconds = [], [], 0.0
    for seed, (before, count) in enumerate(pairwise((0, *_shown(counts)))):
        n = count - before
        steps = predict_steps(model, planes, ["mean", "sample_std"], samples=n, seed=seed)
        result, more_seconds = yield from follow(steps, n)
        spread, its_mean = (torch.from_numpy(result[name]) for name in ("sample_std", "mean"))
        spread = model.calibration.undone(spread, its_mean, n)  # that of the samples counts here
        mean, squares = merged(before, mean, squares, n, result["mean"], np.square(spread.numpy()) * n)
        seconds += more_seconds
        if count == 1:
            sample = mean
        if count in counts:
            means.append(mean)
            times.append(seconds)
        std = np.sqrt(squares / (count - 1)) if count > 1 else None
        deviation = std if direct_std is None else direct_std
        yield follow.snapshot(samples=count, direct=direct, sample=sample, mean=mean, deviation=deviation)
    return SampleConvergence(counts, tuple(means), tuple(times), sample, std, direct, direct_std, direct_seconds)


def _shown(counts: Sequence[int]) -> list[int]:
    """Numbers of samples at which to show results: the given ones, 1, 2, 4 and so on."""
    doubled = [2**power for power in range(counts[-1].bit_length())]
    return sorted({*counts, *doubled})


class _Follow:
    """Runs predictions one after another, times each of them, and reports progress over all."""

    def __init__(self, passes: int) -> None:
        self.passes, self.done, self.elapsed = passes, 0, 0.0

    def __call__(
        self, prediction: Prediction, passes: int
    ) -> Generator[Progress, None, tuple[dict[str, NDArray[np.float32]], float]]:
        """Run one prediction; gives its results and its computing time, without the time that the caller takes."""
        steps, seconds, began = Steps(prediction), 0.0, time.perf_counter()
        for progress in steps:
            seconds += time.perf_counter() - began
            yield self._progress(self.done + passes * progress.fraction, self.elapsed + seconds)
            began = time.perf_counter()
        seconds += time.perf_counter() - began
        self.done += passes
        self.elapsed += seconds
        return steps.result, seconds

    def snapshot(self, **results: Any) -> Snapshot:
        """Give the results after all predictions so far."""
        return Snapshot(**vars(self._progress(self.done, self.elapsed)), **results)

    def _progress(self, done: float, elapsed: float) -> Progress:
        remaining = elapsed / done * (self.passes - done) if done else None
        return Progress(fraction=done / self.passes, elapsed_seconds=elapsed, remaining_seconds=remaining)
