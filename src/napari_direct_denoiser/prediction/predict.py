"""Prediction: the direct pass, posterior samples and their statistics.

Every image goes through `denoise_into`: read a plane, cut it into tiles (`plan_tiles`), run the networks on each tile,
blend the tiles into the targets. `predict_steps` does this for planes in memory.

Both are generators of progress. Inference mode is never held across a yield: it belongs to the thread, and the caller's
code runs in that thread too. Arrays become tensors in `_tensor` and arrays again in `_array`, nowhere else.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast, get_args
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import MIN_SIDE
from ..cuda_graphs import CudaGraphs, Tensors
from ..data.images import LazyPlanes, Region, check_planes
from ..errors import DenoiserError, SettingError
from ..progress import Progress, WorkClock
from ..system import available_memory, free_memory, is_out_of_memory, reusing_memory
from .statistics import STD, SampleStatistics, finite
from .tiling import Output, Tile, TilePlan, in_one_pass, plan_tiles

if TYPE_CHECKING:
    from ..co_model import CoModel

Array = NDArray[np.float32]
Prediction = Generator[Progress, None, dict[str, Array]]

_USABLE = 0.8  # of the free memory
_RECORDED_PIXELS = 1024**2  # of a window: larger ones keep a GPU busy, and their CUDA graph would hold much memory
_ONE_AT_A_TIME = threading.Lock()  # dask asks for lazy planes from several threads, which share networks and memory
_WARNED: WeakSet[CoModel] = WeakSet()  # models whose user knows that memory is short


def predict_steps(
    model: CoModel,
    planes: NDArray[Any],
    outputs: Sequence[Output],
    *,
    samples: int = 50,
    seed: int = 0,
    first: int = 0,
    keep: int | None = None,
    measured: bool = False,
) -> Prediction:
    """Denoise planes in memory; a generator of progress that returns the results.

    Parameters
    ----------
    model
        Trained networks.
    planes
        Noisy planes (P, H, W) of any real dtype, in image units.
    outputs
        What to compute: ``"direct"`` and ``"std"`` (one direct pass gives the prediction and the standard deviation of
        its error), ``"mean"``, ``"median"``, ``"mode"``, ``"sample_std"`` (statistics of N posterior samples, section
        3 of the paper) or ``"sample"`` (the samples themselves). ``"std"`` of a model that does not predict it is that
        of the samples.
    samples, seed, first
        As in `denoise_into`.
    keep
        How many samples the output ``"sample"`` has: the first ones. All N if not given.
    measured
        Whether the planes are those of `NoiseModel.measured`, and the results are to be so too.

    Yields
    ------
    Progress
        At most about ten times a second; the last one has a fraction of 1.

    Returns
    -------
    dict of str to ndarray of float32
        (P, H, W) for each output, (keep, P, H, W) for ``"sample"``, in image units.

    Raises
    ------
    DenoiserError
        At once as `check_request`; while running, if memory runs out or a network fails.
    """
    keep = samples if keep is None else keep
    check_request(outputs, samples, keep)

    def predict() -> Prediction:
        shapes = {name: (keep, *planes.shape) if name == "sample" else planes.shape for name in outputs}
        with _guarded():
            results = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        yield from _denoise_into(model, planes, results, "PYX", samples, seed, first, check=False, measured=measured)
        return cast("dict[str, Array]", results)

    return predict()


def denoise_into(
    model: CoModel,
    image: Any,
    targets: Mapping[Output, Any],
    *,
    axes: str,
    samples: int = 50,
    seed: int = 0,
    first: int = 0,
    check: bool = True,
) -> Generator[Progress, None, None]:
    """Denoise an image plane by plane into arrays; a generator of progress.

    All outputs come from the same samples. A sample depends on `seed`, the number of its plane, its own number, the
    shape of the plane and the networks alone, up to rounding. Planes of more than `tiling.WHOLE_PIXELS` pixels (fewer
    for large networks) are sampled in tiles, blended linearly where they overlap. Mean, median and standard deviation
    are taken in each tile and then blended, so that the deviation is not too low at seams.

    If memory is short, fewer samples are drawn at a time. One warning for each model says so.

    Parameters
    ----------
    model
        Trained networks. They are in evaluation mode during the run.
    image
        The noisy image: anything with a shape that is indexed like a numpy array, such as a dask or zarr array. Each
        plane is read once, when it is denoised.
    targets
        By output, the array that receives it, of the shape of the image: numpy, zarr or alike. That of ``"sample"`` has
        one more axis in front, and receives as many of the first samples as it is long; only these are held in memory.
    axes
        One capital letter for each axis of the image.
    samples
        N, the number of samples of which statistics are taken.
    seed
        Seed of the samples.
    first
        Number of the first plane, if the image is part of a larger one: its samples are those it has there.
    check
        Refuse an image whose first plane is no intensities.

    Raises
    ------
    SettingError
        As `check_request`: at once.
    ImageError
        If planes are too small, are no intensities, or have pixels that are NaN, infinite or beyond float32.
    DenoiserError
        If memory runs out or a network fails.
    """
    check_request(targets, samples, targets["sample"].shape[0] if "sample" in targets else samples)
    return _denoise_into(model, image, targets, axes, samples, seed, first, check)


def check_request(outputs: Collection[str], samples: int, keep: int) -> None:
    """Raise `SettingError` for N < 1, an unknown output, or more samples to keep than are drawn."""
    if samples < 1:
        raise SettingError(f"Expected at least 1 sample, found {samples}: choose 1 or more")
    unknown = [name for name in outputs if name not in get_args(Output)]
    if unknown or not outputs:
        known = ", ".join(get_args(Output))
        raise SettingError(f"Expected outputs out of {known}, found {', '.join(unknown) or 'none'}: name at least one")
    if not 1 <= keep <= samples:
        raise SettingError(f"Expected 1 to {samples} samples to keep, found {keep}: draw more samples or keep fewer")


def _denoise_into(
    model: CoModel,
    image: Any,
    targets: Mapping[Output, Any],
    axes: str,
    samples: int,
    seed: int,
    first: int,
    check: bool,
    measured: bool = False,
) -> Generator[Progress, None, None]:
    if "sample" in targets and all(name == "sample" or in_one_pass(model, name) for name in targets):
        samples = targets["sample"].shape[0]  # no statistics need the others
    stack, run = LazyPlanes(image, axes), None
    with model.evaluating(), reusing_memory(model.device):
        for number, region in enumerate(stack.regions):
            planes = stack.read(number)
            if check and number == 0:
                check_planes(planes, min_side=MIN_SIDE, require_contrast=False)
            noisy = planes.data if measured else model.noise.measured(planes.data)
            if run is None:
                plans = plan_tiles(model, noisy.shape[1:], list(targets), samples)
                run = _Run(model, plans, seed, len(stack))
            with _guarded():
                views = {name: _view(target, name, region, axes, noisy.shape[1:]) for name, target in targets.items()}
            yield from run.plane(noisy[0], views, first + number)
            for name, view in views.items():
                factor = model.calibration.unmeasured if name in STD else None
                result = view if measured else model.noise.restored(view, planes.data.shape[1:], factor)
                if result is not view or not _is_writable_in_place(targets[name]):
                    targets[name][_part(name, region)] = planes.restore(result[..., None, :, :])


def _part(name: Output, region: Region) -> tuple[slice, ...]:
    """Where in a target the results of a plane belong."""
    return (slice(None), *region) if name == "sample" else region


def _is_writable_in_place(target: Any) -> bool:
    return isinstance(target, np.ndarray) and target.dtype == np.float32


def _view(target: Any, name: Output, region: Region, axes: str, shape: tuple[int, ...]) -> Array:
    """Give zeros (H, W), for samples (kept, H, W), to add tiles to: a view of the target if that has this shape."""
    sides = tuple(target.shape[target.ndim - len(axes) + axes.index(axis)] for axis in "YX")
    if sides != shape or not _is_writable_in_place(target):
        return np.zeros((target.shape[0], *shape) if name == "sample" else shape, np.float32)
    samples = [0] if name == "sample" else []
    part = target[_part(name, region)]
    order = [*samples, *(len(samples) + axes.index(axis) for axis in "YX")]
    others = [axis for axis in range(part.ndim) if axis not in order]
    view: Array = part.transpose(*others, *order)[(0,) * len(others)]
    view[:] = 0
    return view


class _Run:
    """One prediction: its tiles, how many samples are drawn at a time, and how far it is."""

    def __init__(self, model: CoModel, plans: list[TilePlan], seed: int, planes: int) -> None:
        self.model, self.plans, self.seed = model, plans, seed
        self.clock = WorkClock(planes * sum(plan.work for plan in plans))
        free = _USABLE * available_memory(model.device)
        self.batches = {plan: plan.batch_within(free) for plan in plans}
        self._graphs = CudaGraphs(model.device)
        if any(batch < plan.batch for plan, batch in self.batches.items()):
            self._warn()

    def plane(self, noisy: NDArray[Any], views: Mapping[Output, Array], number: int) -> Iterator[Progress]:
        """Add all outputs of a plane (H, W) to views that are zero."""
        for plan in self.plans:
            for index, tile in enumerate(plan.tiles):
                if plan.samples:
                    work = self._sampled(noisy, plan, tile, views, (self.seed, number, index))
                else:
                    work = self._direct(noisy, plan, tile, views)
                for done in work:
                    if self.clock.tick(done):
                        yield self.clock.progress()

    def _direct(self, noisy: NDArray[Any], plan: TilePlan, tile: Tile, views: Mapping[Output, Array]) -> Iterator[int]:
        """One direct pass for all outputs that it gives."""
        with _guarded(), torch.inference_mode():
            window = self._tensor(tile, noisy)
            work = self.model.direct_with_std if "std" in plan.outputs else self._direct_alone
            results = self._graphs.call(work, window) if window.numel() <= _RECORDED_PIXELS else work(window)
            for name, result in zip(("direct", "std"), results, strict=False):
                if name in plan.outputs:
                    views[name][tile.kept] = _array(result[0, 0])[tile.inner]
        yield 1

    def _direct_alone(self, window: Tensor) -> Tensors:
        return (self.model.direct(window),)

    def _sampled(
        self, noisy: NDArray[Any], plan: TilePlan, tile: Tile, views: Mapping[Output, Array], key: tuple[int, ...]
    ) -> Iterator[int]:
        """Draw the samples of a tile; yields how many were drawn since the last yield."""
        if key[-1]:
            free_memory(self.model.device)  # windows differ in size: memory kept of one does not fit the next
        with _guarded(), torch.inference_mode():
            encoding = self.model.encode(self._tensor(tile, noisy))  # once for all samples
            statistics = SampleStatistics(plan.outputs, plan.samples, tile.weights.shape)
        keep = len(views["sample"]) if "sample" in plan.outputs else 0
        while (first := statistics.count) < plan.samples:
            n = min(self.batches[plan], plan.samples - first)
            try:
                kept = self._draw(encoding, tile, statistics, [(*key, first + index) for index in range(n)], keep)
            except _OutOfMemoryError:
                if n == 1:
                    raise
                kept = None
            if kept is None:  # after the except clause, which holds the failed call's tensors
                self.batches[plan] = n // 2
                self._warn()
                free_memory(self.model.device)
                continue
            with _guarded():
                if len(kept):
                    views["sample"][(slice(first, first + len(kept)), *tile.kept)] += tile.weights * kept
            yield n
        with _guarded():
            for name, value in statistics.results(self.model.calibration).items():
                views[name][tile.kept] += tile.weights * finite(value)

    def _draw(
        self, encoding: Any, tile: Tile, statistics: SampleStatistics, keys: list[tuple[int, ...]], keep: int
    ) -> Array:
        """Draw a sample for each key and take it into the statistics; gives those of the first `keep` (n, h, w)."""
        with _guarded(), torch.inference_mode():
            generators = [_generator(self.model, key) for key in keys]
            drawn = self.model.sample(encoding, generators)[:, 0][(slice(None), *tile.inner)]  # (n, h, w)
            kept = _array(drawn[: max(keep - statistics.count, 0)])
            statistics.add(drawn)
        return kept

    def _tensor(self, tile: Tile, noisy: NDArray[Any]) -> Tensor:
        """Cut the window of a tile as (1, 1, h, w) float32 on the model's device."""
        return torch.from_numpy(tile.cut(noisy))[None, None].to(self.model.device)

    def _warn(self) -> None:
        if self.model not in _WARNED:
            _WARNED.add(self.model)
            warnings.warn("Memory is short: drawing fewer samples at a time, which is slower", stacklevel=2)


def _array(tensor: Tensor) -> Array:
    return finite(cast("Array", tensor.float().cpu().numpy()))


def _generator(model: CoModel, key: tuple[int, ...]) -> torch.Generator:
    """Seed random numbers that depend on (seed, plane, tile, sample) alone, and are unrelated between them."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device=model.device).manual_seed(seed)


class _OutOfMemoryError(DenoiserError):
    """Fewer samples at a time may fit."""


@contextmanager
def _guarded() -> Iterator[None]:
    """Let one thread at a time compute, and turn errors of torch and numpy into user-facing ones."""
    try:
        with _ONE_AT_A_TIME:
            yield
    except (RuntimeError, MemoryError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        if is_out_of_memory(error):
            raise _OutOfMemoryError(
                f"Out of memory while denoising ({line}): crop the image, close other programs or draw fewer samples"
            ) from None
        raise DenoiserError(
            f"The model failed while denoising ({line}): check that the model file fits this image and device"
        ) from error
