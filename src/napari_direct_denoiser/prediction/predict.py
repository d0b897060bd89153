"""From planes and a trained model to denoised planes: the direct pass, and what samples of HDN say together.

Arrays become tensors in `_tensor` and arrays again in `_array`, nowhere else. Prediction is a generator of progress
that never holds torch's inference mode across a yield: the mode belongs to the thread, which the caller runs in too.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DenoiserError, SettingError
from ..progress import Progress, WorkClock
from ..system import available_memory, free_memory, is_out_of_memory, reusing_memory
from .statistics import SampleStatistics
from .tiling import Output, Tile, TilePlan, plan, plan_with_less

if TYPE_CHECKING:
    from ..co_model import CoModel

_USABLE = 0.8  # of the memory that is free
_ONE_AT_A_TIME = threading.Lock()  # lazy planes are asked for by several threads that share networks and memory


Prediction = Generator[Progress, None, dict[str, NDArray[np.float32]]]


def predict_steps(
    model: CoModel,
    planes: NDArray[Any],
    outputs: Sequence[Output],
    *,
    samples: int = 50,
    seed: int = 0,
    first: int = 0,
) -> Prediction:
    """Denoise planes; a generator of progress that returns the results.

    All outputs of one run come from the same samples. Those of a plane depend on `seed`, the index of the plane and the
    number of the sample alone. A plane of more than `passes.WHOLE_PIXELS` pixels is sampled in tiles, blended linearly
    where they overlap: mean, median and deviation are taken in each tile and then blended, so that the deviation does
    not sag at seams.

    Where memory is short, fewer samples are drawn at a time, and then tiles are smaller; a warning says so once.

    Parameters
    ----------
    model : CoModel
        Trained networks. It is put in evaluation mode for the time of the run.
    planes : ndarray, shape (P, H, W), any real dtype
        Noisy planes in image units.
    outputs : sequence of {"direct", "mean", "median", "std", "sample"}
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
    Progress
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


def _predict(
    model: CoModel, planes: NDArray[Any], outputs: list[Output], samples: int, seed: int, first: int
) -> Prediction:
    count, height, width = planes.shape
    wanted = (height, width), outputs, samples
    with _guarded():
        # Blending adds up, so results start at zero.
        results: dict[str, NDArray[np.float32]] = {
            name: np.zeros((samples, *planes.shape) if name == "sample" else planes.shape, np.float32)
            for name in outputs
        }
    passes = plan(model, *wanted, model.memory_share)
    room = _USABLE * available_memory(model.device)
    if max(each.bytes for each in passes) > room:
        passes = _reduced(model, wanted, room) or passes  # what is free is a guess: the smallest tiles may do
    clock = WorkClock(count * sum(each.work for each in passes))
    training = model.training
    model.eval()
    try:
        with reusing_memory(model.device):
            for index, plane in enumerate(planes):
                views = {name: out[:, index] if name == "sample" else out[index] for name, out in results.items()}
                done = clock.done
                while failure := (yield from _plane(model, plane, passes, views, (seed, first + index), clock)):
                    free_memory(model.device)
                    smaller = _reduced(model, wanted, max(each.bytes for each in passes))
                    if smaller is None:
                        raise failure
                    passes = smaller
                    clock.done, clock.total = done, done + (count - index) * sum(each.work for each in passes)
    finally:
        model.train(training)
    return results


def _reduced(model: CoModel, wanted: tuple[tuple[int, int], list[Output], int], than: float) -> list[TilePlan] | None:
    """Plan with smaller tiles or batches, for this and later runs of the model; None if there are none."""
    found = plan_with_less(model, *wanted, int(than))
    if found is None:
        return None
    if model.memory_share == 1.0:
        warnings.warn("Memory is short: denoising in smaller parts, which is slower", stacklevel=3)
    model.memory_share, passes = found
    return passes


_Views = dict[str, NDArray[np.float32]]


def _plane(
    model: CoModel, plane: NDArray[Any], passes: list[TilePlan], views: _Views, key: tuple[int, int], clock: WorkClock
) -> Generator[Progress, None, DenoiserError | None]:
    """Compute all outputs of a plane (H, W), whatever is there of them as yet; returns what it lacked memory for."""
    for view in views.values():
        view[:] = 0
    try:
        for each in passes:
            steps = _sampled(model, plane, each, views, key) if each.samples else _direct(model, plane, each, views)
            for work in steps:
                if clock.tick(work):
                    yield clock.progress()
    except _OutOfMemoryError as error:
        error.__context__ = None  # whose frames, as its own, hold what is to be freed
        return error.with_traceback(None)
    return None


def _direct(model: CoModel, plane: NDArray[Any], each: TilePlan, views: _Views) -> Iterator[int]:
    """TilePlan a plane (H, W) through the Direct Denoiser, yielding the work done since the last yield."""
    for tile in each.tiles:
        with _guarded(), torch.inference_mode():
            views["direct"][tile.kept] = _array(model.direct(_tensor(model, tile, plane))[0, 0])[tile.inner]
        yield 1


def _sampled(model: CoModel, plane: NDArray[Any], each: TilePlan, views: _Views, key: tuple[int, int]) -> Iterator[int]:
    """Sample a plane (H, W) and take statistics tile by tile, yielding the work done since the last yield."""
    for number, tile in enumerate(each.tiles):
        if number:
            free_memory(model.device)  # windows differ in size: what is kept of one does not fit the next
        yield from _sampled_tile(model, plane, each, tile, views, (*key, number))


def _sampled_tile(
    model: CoModel, plane: NDArray[Any], each: TilePlan, tile: Tile, views: _Views, key: tuple[int, ...]
) -> Iterator[int]:
    with _guarded(), torch.inference_mode():
        encoding = model.encode(_tensor(model, tile, plane))  # the bottom-up pass, once a tile
        statistics = SampleStatistics(each.outputs, each.samples, tile.weights.shape)
    for first in range(0, each.samples, each.batch):
        n = min(each.batch, each.samples - first)
        with _guarded(), torch.inference_mode():
            generators = [_generator(model, (*key, first + index)) for index in range(n)]
            drawn = model.sample(encoding, generators)[:, 0][(slice(None), *tile.inner)]  # (n, h, w)
            statistics.add(drawn)
            if "sample" in each.outputs:
                views["sample"][(slice(first, first + n), *tile.kept)] += tile.weights * _array(drawn)
        yield n
    with _guarded():
        for name, value in statistics.results().items():
            views[name][tile.kept] += tile.weights * value


def _tensor(model: CoModel, tile: Tile, plane: NDArray[Any]) -> Tensor:
    """Cut the window of a tile as (1, 1, h, w) float32 on the model's device."""
    return torch.from_numpy(tile.cut(plane))[None, None].to(model.device)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return cast("NDArray[np.float32]", tensor.float().cpu().numpy())


def _generator(model: CoModel, key: tuple[int, ...]) -> torch.Generator:
    """Seed random numbers that depend on (seed, plane, tile, sample) alone, and are unrelated between them."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device=model.device).manual_seed(seed)


class _OutOfMemoryError(DenoiserError):
    """Smaller tiles may do."""


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
            raise _OutOfMemoryError(
                f"Out of memory while denoising ({line}): close other programs, draw fewer samples or crop the image"
            ) from None
        raise DenoiserError(
            f"The model failed while denoising ({line}): check that the model file fits this image and device"
        ) from error
