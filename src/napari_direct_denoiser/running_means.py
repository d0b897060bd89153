"""HDN against direct: the mean of ever more samples beside the one direct pass (the paper's Figure 1 and Table 1)."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .compare import STANDARD_ERRORS, Judged
from .config import CompareSettings
from .prediction import PredictionProgress, Steps
from .sample_statistics import merged

if TYPE_CHECKING:
    from .denoiser import Denoiser

_WARM_UP = 128  # side in pixels of what is denoised before the clock starts


@dataclass(frozen=True, eq=False)
class RunningMeans:
    """Means of the first N samples of HDN and the direct pass, all float32 (P, H, W) in image units.

    Attributes
    ----------
    samples
        The numbers N, rising.
    means
        The mean of the first N samples, for each N.
    seconds
        Time to draw the first N samples, for each N.
    deviation
        Deviation of the samples at each pixel: how unsure HDN is. None if but one was drawn.
    direct
        The direct pass.
    direct_seconds
        Time it took.
    """

    samples: tuple[int, ...]
    means: tuple[NDArray[np.float32], ...]
    seconds: tuple[float, ...]
    deviation: NDArray[np.float32] | None
    direct: NDArray[np.float32]
    direct_seconds: float

    @property
    def disagreement(self) -> NDArray[np.bool_] | None:
        """Where the direct pass is more than 3 standard errors away from the mean of all samples."""
        if self.deviation is None:
            return None
        standard_error = self.deviation / np.sqrt(self.samples[-1])
        found: NDArray[np.bool_] = np.abs(self.direct - self.means[-1]) > STANDARD_ERRORS * standard_error
        return found

    def judged(self) -> list[Judged]:
        """The means and, last, the direct pass as rows of a table."""
        means = zip(self.samples, self.means, self.seconds, strict=True)
        rows = [Judged(mean, "mean", n, seconds, f"HDN mean (N={n})") for n, mean, seconds in means]
        return [*rows, Judged(self.direct, "direct", 0, self.direct_seconds, "direct")]


def running_means_steps(
    denoiser: Denoiser, planes: NDArray[Any], samples: Sequence[int] = CompareSettings().samples
) -> Generator[PredictionProgress, None, RunningMeans]:
    """Denoise planes directly, and by the running mean of samples; a generator of progress.

    Each sample is drawn once: the mean of 100 goes on where the mean of 10 ended. Only denoising is timed, after a
    small part of the first plane was denoised both ways to wake up the device.

    Parameters
    ----------
    denoiser
        A trained model.
    planes
        Noisy planes (P, H, W).
    samples
        The numbers of samples after which to take the mean, rising, as `CompareSettings` has them.

    Yields
    ------
    PredictionProgress
        `done` and `total` count planes through a network.

    Raises
    ------
    SettingError, ImageError, DenoiserError
        As `Denoiser.denoise_steps`.
    """
    counts = tuple(samples)
    follow = _Follow(len(planes), 1 + counts[-1])
    for _ in denoiser.denoise_steps(planes[:1, :_WARM_UP, :_WARM_UP], ["direct", "mean"], samples=1, axes="TYX"):
        yield PredictionProgress(0, follow.total, 0.0, None)  # the caller may stop here
    result, direct_seconds = yield from follow(denoiser.denoise_steps(planes, ["direct"], axes="TYX"), 1)
    direct = result["direct"]
    mean, squares = np.zeros_like(direct), np.zeros_like(direct)
    means, times, seconds = [], [], 0.0
    for seed, (before, count) in enumerate(zip((0, *counts), counts, strict=False)):
        n = count - before
        steps = denoiser.denoise_steps(planes, ["mean", "deviation"], samples=n, seed=seed, axes="TYX")
        result, more_seconds = yield from follow(steps, n)
        mean, squares = merged(before, mean, squares, n, result["mean"], np.square(result["deviation"]) * n)
        seconds += more_seconds
        means.append(mean)
        times.append(seconds)
    deviation = np.sqrt(squares / (counts[-1] - 1)) if counts[-1] > 1 else None
    return RunningMeans(counts, tuple(means), tuple(times), deviation, direct, direct_seconds)


class _Follow:
    """Runs predictions one after the other: times each, and counts all of them as one."""

    def __init__(self, planes: int, passes: int) -> None:
        self.planes, self.total = planes, planes * passes
        self.done, self.elapsed = 0, 0.0

    def __call__(
        self, steps: Steps, passes: int
    ) -> Generator[PredictionProgress, None, tuple[dict[str, NDArray[np.float32]], float]]:
        """Run one prediction; give its results and the seconds that it worked, not those spent at a yield."""
        seconds = 0.0
        while True:
            began = time.perf_counter()
            try:
                progress = next(steps)
            except StopIteration as end:
                seconds += time.perf_counter() - began
                self.done += self.planes * passes
                self.elapsed += seconds
                return end.value, seconds
            seconds += time.perf_counter() - began
            done = self.done + round(self.planes * passes * progress.done / progress.total)
            elapsed = self.elapsed + seconds
            remaining = elapsed / done * (self.total - done) if done else None
            yield PredictionProgress(done, self.total, elapsed, remaining)
