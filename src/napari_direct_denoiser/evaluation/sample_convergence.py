"""The mean of a growing number of posterior samples beside the direct pass (Figure 1 and Table 1 of the paper)."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..config import CompareSettings
from ..prediction.predict import Prediction, predict_steps
from ..prediction.statistics import merged
from ..progress import Progress, Steps
from .compare import STANDARD_ERRORS, Judged

if TYPE_CHECKING:
    from ..co_model import CoModel

_WARM_UP = 128  # side in pixels of the part that is denoised before times are taken


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
    std
        Standard deviation of all samples at each pixel: the uncertainty of HDN. None for a single sample.
    direct
        The direct pass.
    direct_seconds
        Time of the direct pass.
    """

    samples: tuple[int, ...]
    means: tuple[NDArray[np.float32], ...]
    seconds: tuple[float, ...]
    std: NDArray[np.float32] | None
    direct: NDArray[np.float32]
    direct_seconds: float

    @property
    def disagreement(self) -> NDArray[np.bool_] | None:
        """Where the direct pass differs from the mean of all samples by more than `STANDARD_ERRORS`."""
        if self.std is None:
            return None
        standard_error = self.std / np.sqrt(self.samples[-1])
        found: NDArray[np.bool_] = np.abs(self.direct - self.means[-1]) > STANDARD_ERRORS * standard_error
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
        Over all passes through a network.

    Raises
    ------
    SettingError, ImageError, DenoiserError
        As `predict_steps`.
    """
    counts = tuple(samples)
    follow = _Follow(1 + counts[-1])
    for _ in predict_steps(model, planes[:1, :_WARM_UP, :_WARM_UP], ["direct", "mean"], samples=1):
        yield Progress(fraction=0.0, elapsed_seconds=0.0, remaining_seconds=None)  # so that the caller can stop
    result, direct_seconds = yield from follow(predict_steps(model, planes, ["direct"]), 1)
    direct = result["direct"]
    mean, squares = np.zeros_like(direct), np.zeros_like(direct)
    means, times, seconds = [], [], 0.0
    for seed, (before, count) in enumerate(zip((0, *counts), counts, strict=False)):
        n = count - before
        steps = predict_steps(model, planes, ["mean", "sample_std"], samples=n, seed=seed)
        result, more_seconds = yield from follow(steps, n)
        mean, squares = merged(before, mean, squares, n, result["mean"], np.square(result["sample_std"]) * n)
        seconds += more_seconds
        means.append(mean)
        times.append(seconds)
    std = np.sqrt(squares / (counts[-1] - 1)) if counts[-1] > 1 else None
    return SampleConvergence(counts, tuple(means), tuple(times), std, direct, direct_seconds)


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

    def _progress(self, done: float, elapsed: float) -> Progress:
        remaining = elapsed / done * (self.passes - done) if done else None
        return Progress(fraction=done / self.passes, elapsed_seconds=elapsed, remaining_seconds=remaining)
