"""From planes and a trained model to denoised planes: the direct pass, and what samples of HDN say together.

Arrays become tensors in `_tensor` and arrays again in `_array`, nowhere else. Prediction is a generator of progress
that never holds torch's inference mode across a yield: the mode belongs to the thread, which the caller runs in too.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .device import is_out_of_memory
from .errors import DenoiserError, SettingError
from .tiling import Tile, padded, tiles

if TYPE_CHECKING:
    from .co_model import CoModel

Output = Literal["direct", "mean", "median", "deviation", "sample"]

DIRECT_TILE = 1024
"""Largest side in pixels of the core of a tile of the direct pass: small working sets are quicker, on a CPU too."""
WHOLE_PIXELS = 2048 * 2048
"""Planes of up to so many pixels are sampled whole, so that a sample is one coherent image; larger ones in tiles."""
BATCH_PIXELS = 1024 * 1024
"""Samples times pixels drawn in one call of the model (one sample at least)."""
MEDIAN_PIXELS = 256 * 1024 * 1024
"""Samples times pixels held for a median (1 GiB). Where a whole plane needs more, it is cut into smaller tiles."""
YIELD_SECONDS = 0.1
"""Progress is given at most once in this time, so that a viewer that draws it is not kept busy."""

_ONE_AT_A_TIME = threading.Lock()  # lazy planes are asked for by several threads that share networks and memory


@dataclass(frozen=True)
class PredictionProgress:
    """How far a prediction is; `done` and `total` count passes of a tile through a network."""

    done: int
    total: int
    elapsed_seconds: float
    remaining_seconds: float | None


Steps = Generator[PredictionProgress, None, dict[str, NDArray[np.float32]]]


def predict_steps(
    model: CoModel,
    planes: NDArray[Any],
    outputs: Sequence[Output],
    *,
    samples: int = 50,
    seed: int = 0,
    first: int = 0,
) -> Steps:
    """Denoise planes; a generator of progress that returns the results.

    All outputs of one run come from the same samples. Those of a plane depend on `samples`, `seed` and the index of the
    plane alone. A plane of more than `WHOLE_PIXELS` pixels is sampled in tiles, blended linearly where they overlap:
    mean, median and deviation are taken in each tile and then blended, so that the deviation does not sag at seams.

    Parameters
    ----------
    model : CoModel
        Trained networks. It is put in evaluation mode for the time of the run.
    planes : ndarray, shape (P, H, W), any real dtype
        Noisy planes in image units.
    outputs : sequence of {"direct", "mean", "median", "deviation", "sample"}
        What to compute: the direct pass, statistics of N samples of HDN (paper, section 3), or the samples themselves.
        The deviation is that of the N samples (divided by N, as `numpy.std`).
    samples : int
        N, the number of samples.
    seed : int
        Seed of the samples.
    first : int
        Number of the first plane, where these are part of a larger stack: their samples are those they have in it.

    Yields
    ------
    PredictionProgress
        At most about ten times a second; the last one has ``done == total``.

    Returns
    -------
    dict of str to ndarray of float32
        Shape (P, H, W) for each output in image units, (N, P, H, W) for "sample".

    Raises
    ------
    SettingError
        For N < 1 or an unknown output, at once.
    DenoiserError
        While running, if memory is out or a network fails.
    """
    if samples < 1:
        raise SettingError(f"Expected at least 1 sample, found {samples}: choose 1 or more")
    unknown = [name for name in outputs if name not in get_args(Output)]
    if unknown or not outputs:
        known = ", ".join(get_args(Output))
        raise SettingError(f"Expected outputs out of {known}, found {', '.join(unknown) or 'none'}: name at least one")
    return _predict(model, planes, list(dict.fromkeys(outputs)), samples, seed, first)


def run(steps: Steps, callback: Callable[[PredictionProgress], None] | None = None) -> dict[str, NDArray[np.float32]]:
    """Drain a generator of progress, handing each record to `callback`, and return its result."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return cast("dict[str, NDArray[np.float32]]", end.value)
        if callback is not None:
            callback(progress)


@dataclass(frozen=True)
class _Pass:
    """One way through a plane: which outputs it makes, with which tiles, out of how many samples (0: direct)."""

    outputs: list[Output]
    tiles: list[Tile]
    samples: int

    @property
    def work(self) -> int:
        return len(self.tiles) * max(self.samples, 1)


def plan(model: CoModel, shape: tuple[int, int], outputs: Sequence[Output], samples: int) -> list[_Pass]:
    """Decide with which tiles each output of a plane of `shape` is computed.

    Samples that a median cannot hold at once are drawn apart, in smaller tiles: what the other outputs look like then
    does not depend on whether a median is asked for.
    """
    passes = []
    if "direct" in outputs:
        cut = tiles(shape, tile=DIRECT_TILE, halo=model.halo, multiple=model.multiple)
        passes.append(_Pass(["direct"], cut, 0))
    sampled: list[Output] = [name for name in outputs if name != "direct"]
    if not sampled:
        return passes
    whole = math.prod(padded(side, model.multiple) for side in shape)
    held = MEDIAN_PIXELS // samples
    apart: list[Output] = ["median"] if "median" in sampled and held < min(whole, WHOLE_PIXELS) else []
    together = [name for name in sampled if name not in apart]
    # A window is a core and two halos; what is kept of it, and held for a median, a core and two half halos.
    for names, limit, around in ((together, WHOLE_PIXELS, 2 * model.halo), (apart, held, model.halo)):
        if names:
            side = whole if whole <= limit else math.isqrt(limit) - around
            cut = tiles(shape, tile=side, halo=model.halo, multiple=model.multiple, blend=model.halo)
            passes.append(_Pass(names, cut, samples))
    return passes


def _predict(model: CoModel, planes: NDArray[Any], outputs: list[Output], samples: int, seed: int, first: int) -> Steps:
    count, height, width = planes.shape
    passes = plan(model, (height, width), outputs, samples)
    clock = Clock(count * sum(each.work for each in passes))
    with _guarded():
        # Blending adds up, so results start at zero.
        results: dict[str, NDArray[np.float32]] = {
            name: np.zeros((samples, *planes.shape) if name == "sample" else planes.shape, np.float32)
            for name in outputs
        }
    training = model.training
    model.eval()
    try:
        for index, plane in enumerate(planes):
            views = {name: out[:, index] if name == "sample" else out[index] for name, out in results.items()}
            for each in passes:
                key = seed, first + index
                steps = _sampled(model, plane, each, views, key) if each.samples else _direct(model, plane, each, views)
                for work in steps:
                    if clock.tick(work):
                        yield clock.progress()
    finally:
        model.train(training)
    return results


_Views = dict[str, NDArray[np.float32]]


def _direct(model: CoModel, plane: NDArray[Any], each: _Pass, views: _Views) -> Iterator[int]:
    """Pass a plane (H, W) through the Direct Denoiser, yielding the work done since the last yield."""
    for tile in each.tiles:
        with _guarded(), torch.inference_mode():
            views["direct"][tile.kept] = _array(model.direct(_tensor(model, tile, plane))[0, 0])[tile.inner]
        yield 1


def _sampled(model: CoModel, plane: NDArray[Any], each: _Pass, views: _Views, key: tuple[int, ...]) -> Iterator[int]:
    """Sample a plane (H, W) and take statistics tile by tile, yielding the work done since the last yield."""
    for number, tile in enumerate(each.tiles):
        batch = max(BATCH_PIXELS // math.prod(tile.window_shape), 1)
        with _guarded(), torch.inference_mode():
            generator = _generator(model, (*key, number))
            encoding = model.encode(_tensor(model, tile, plane))  # the bottom-up pass, once a tile
            statistics = _Statistics(tile, each)
        for first in range(0, each.samples, batch):
            n = min(batch, each.samples - first)
            with _guarded(), torch.inference_mode():
                drawn = model.sample(encoding, n, generator)[:, 0][(slice(None), *tile.inner)]  # (n, h, w)
                statistics.add(drawn, first)
                if "sample" in each.outputs:
                    views["sample"][(slice(first, first + n), *tile.kept)] += tile.weights * _array(drawn)
            yield n
        with _guarded():
            for name, value in statistics.results().items():
                views[name][tile.kept] += tile.weights * value


class _Statistics:
    """Mean and deviation of the samples of one tile as running sums; the samples themselves only for a median."""

    def __init__(self, tile: Tile, each: _Pass) -> None:
        self.wanted = each.outputs
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0  # sum of squared differences from the mean
        shape = each.samples, *tile.rows.weights.shape, *tile.columns.weights.shape
        self.held = np.empty(shape, np.float32) if "median" in self.wanted else None

    def add(self, drawn: Tensor, first: int) -> None:
        """Take in samples (n, h, w), of which `first` is the number of the first one."""
        if self.held is not None:
            self.held[first : first + len(drawn)] = _array(drawn)
        if "mean" in self.wanted or "deviation" in self.wanted:
            # Chan's update of mean and squares by a batch: no cancellation, so float32 will do.
            n, total = len(drawn), self.count + len(drawn)
            variance, mean = torch.var_mean(drawn, dim=0, correction=0)
            shift = mean - self.mean
            self.mean = self.mean + shift * (n / total)
            self.squares = self.squares + variance * n + shift**2 * (self.count * n / total)
            self.count = total

    def results(self) -> dict[str, NDArray[np.float32]]:
        """Give the statistics asked for, (h, w) each."""
        found: dict[str, NDArray[np.float32]] = {}
        if self.held is not None:
            found["median"] = _median(self.held)
        if "mean" in self.wanted:
            found["mean"] = _array(cast(Tensor, self.mean))
        if "deviation" in self.wanted:
            found["deviation"] = _array((cast(Tensor, self.squares) / self.count).sqrt())
        return found


def _median(held: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of (N, h, w) over N, with the samples of a pixel side by side in memory: 8x quicker than `np.median`."""
    n, height, width = held.shape
    result = np.empty((height, width), np.float32)
    rows = max(2**22 // (n * width), 1)  # the sorted copy stays small
    for top in range(0, height, rows):
        strip = held[:, top : top + rows]
        ordered = np.sort(strip.reshape(n, -1).T.copy(), axis=1)
        middle = (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2
        result[top : top + rows] = middle.reshape(strip.shape[1:])
    return result


def _tensor(model: CoModel, tile: Tile, plane: NDArray[Any]) -> Tensor:
    """Cut the window of a tile as (1, 1, h, w) float32 on the model's device."""
    return torch.from_numpy(tile.cut(plane))[None, None].to(model.device)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return cast("NDArray[np.float32]", tensor.float().cpu().numpy())


def _generator(model: CoModel, key: tuple[int, ...]) -> torch.Generator:
    """Seed random numbers that depend on (seed, plane, tile) alone, and are unrelated between them."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device=model.device).manual_seed(seed)


@contextmanager
def _guarded() -> Iterator[None]:
    """Let one thread at a time compute, and turn what torch and numpy raise into an error for a person."""
    try:
        with _ONE_AT_A_TIME:
            yield
    except (RuntimeError, MemoryError) as error:
        text = str(error).strip() or type(error).__name__
        line = text.splitlines()[0]
        if is_out_of_memory(error):
            message = (
                f"Out of memory while denoising ({line}): close other programs, draw fewer samples or crop the image"
            )
        else:
            message = f"The model failed while denoising ({line}): check that the model file fits this image and device"
        raise DenoiserError(message) from error


@dataclass
class Clock:
    """Counts work and decides when to tell of it."""

    total: int
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    told: float = -math.inf

    def tick(self, work: int) -> bool:
        """Add work; say whether it is time for a progress record."""
        self.done += work
        now = time.monotonic()
        due = now - self.told >= YIELD_SECONDS or self.done == self.total
        if due:
            self.told = now
        return due

    def progress(self) -> PredictionProgress:
        """How far the work is now."""
        elapsed = time.monotonic() - self.began
        return PredictionProgress(self.done, self.total, elapsed, elapsed / self.done * (self.total - self.done))
