"""Images of any size, denoised block by block, on this computer or on the workers of a dask cluster.

Each block is read, denoised, converted and written before the next one, by whoever computes it. What `Resumable` says
is written is not computed again.

dask's `map_overlap` is not used: it reads nine blocks of a file for each tile, and a graph of 100 000 planes takes as
many steps to find one of them. Here each task has its own small graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import psutil
from numpy.typing import NDArray

from ..config import MIN_SIDE
from ..data.axes import Region
from ..data.dtypes import to_dtype
from ..data.images import LazyPlanes, as_planes, check_finite, check_planes, middle
from ..data.views import sliceable
from ..errors import DenoiserError, ImageError, SettingError
from ..progress import Progress, Steps, WorkClock, drain
from ..system import free_memory, reusing_memory
from .blocks import Block, block_sides, cut_into_blocks
from .predict import check_request, denoise_into
from .tiling import Output

if TYPE_CHECKING:
    from ..co_model import CoModel
    from .cluster import Cluster
    from .predictor import Predictor

_MOST_KEPT = 5 * 2**27  # bytes in use between two windows of a tile (640 MiB)
_CHECKED_SIDE = 2048  # pixels of the first plane that are checked before the work
_CHECKED_BYTES = 2**30  # of an image whose planes are all checked then, if a bad one would end the work


@runtime_checkable
class Resumable(Protocol):
    """A target that may keep its blocks when a run ends before it is complete: `data.ome_zarr.ZarrImage`."""

    resumable: bool
    """Whether it does."""

    def is_done(self, region: Region, /) -> bool:
        """Whether all pixels of a region are written."""


@dataclass
class Written:
    """What a run of `denoise_blocks` did.

    Attributes
    ----------
    planes
        How many planes were denoised, in whole or in part. Those that were done before do not count.
    clipped
        How many pixels were beyond the range of the dtype, by output.
    """

    planes: int = 0
    clipped: dict[Output, int] = field(default_factory=dict)


def denoise_blocks(
    model: CoModel,
    image: Any,
    targets: Mapping[Output, Any],
    *,
    axes: str,
    samples: int = 50,
    seed: int = 0,
    first: int = 0,
    name: str = "image",
    cluster: Cluster | None = None,
) -> Generator[Progress, None, Written]:
    """Denoise an image of any size into arrays, block by block; a generator of progress.

    The results are those of `denoise_into`, bit for bit on the same device with as many threads. In planes that are cut
    into tiles, other pixels around a tile change the direct pass by under 1e-3 of the noise; see `CoModel.halo`.

    Parameters
    ----------
    model
        Trained networks; those that `cluster` has, if it is given.
    image
        The noisy image: anything with a shape that is indexed like a numpy array. Only windows of blocks are read.
        Workers open an image of `open_image` themselves; other arrays are sent to them block by block.
    targets
        As in `denoise_into`, of any real dtype. A `Resumable` one keeps what was written before.
    axes, samples, seed, first
        As in `denoise_into`.
    name
        What to call the image in an error.
    cluster
        Where to compute; in this thread if not given. The targets must be picklable then.

    Returns
    -------
    Written
        What was done now.

    Raises
    ------
    SettingError, ImageError
        As `denoise_into`: at once. If a block cannot be read, or has pixels that are NaN, infinite or beyond float32:
        when all others are written, if the targets keep them.
    DenoiserError
        If memory runs out, a network fails, or the results cannot be written.
    """
    check_request(targets, samples, targets["sample"].shape[0] if "sample" in targets else samples)
    _check_first(image, axes, name)
    sides, work = block_sides(model, image.shape, axes, targets), _Work(targets, axes, samples, seed, first, name)

    def missing() -> Iterator[Block]:  # not kept: there may be a million
        blocks = cut_into_blocks(tuple(image.shape), axes, sides, model.halo)
        return (block for block in blocks if not all(_is_done(*each, block) for each in targets.items()))

    total = sum(block.pixels for block in missing())
    tasks = ((block, sliceable(image)[block.window]) for block in missing())
    outcomes = _here(model, tasks, work) if cluster is None else _there(cluster, tasks, work)
    kept = all(isinstance(target, Resumable) and target.resumable for target in targets.values())
    return _walk(outcomes, total, targets, go_on=kept)


def denoised_planes(
    model: CoModel,
    image: Any,
    output: Output,
    *,
    axes: str,
    samples: int = 50,
    seed: int = 0,
    name: str = "image",
    report: Callable[[Progress], object] = lambda progress: None,
) -> Iterator[NDArray[np.float32]]:
    """Denoise an image of any size, one plane (H, W) when it is asked for, in the order of the other axes.

    Parameters
    ----------
    model, image, axes, samples, seed, name
        As in `denoise_blocks`.
    output
        Any but ``"sample"``.
    report
        Receives the progress.

    Raises
    ------
    DenoiserError
        As `denoise_blocks`; a bad plane ends the work. Of an image of up to 1 GiB, it does so before the work.
    """
    shape = tuple(image.shape)
    _check_first(image, axes, name)
    dtype = np.dtype(image.dtype)
    if dtype.kind == "f" and math.prod(shape) * dtype.itemsize <= _CHECKED_BYTES:
        stack = LazyPlanes(sliceable(image), axes)
        for number in range(len(stack)):
            stack.read(number, name=name)  # raises if a pixel is not finite
    work, clock = _Work({output: image}, axes, samples, seed, 0, name), WorkClock(math.prod(shape))
    for block in cut_into_blocks(shape, axes, (shape[axes.index("Y")], shape[axes.index("X")]), 0):
        steps = Steps(work.denoised(model, block, sliceable(image)[block.window]))
        for pixels in _counted(steps, block):
            if clock.tick(pixels):
                report(clock.progress())
        yield as_planes(steps.result[output], axes).data[0]


def connect(
    load: Callable[[Path], Predictor], content: bytes, *, scheduler: str | None = None, workers: int | None = None
) -> AbstractContextManager[Cluster]:
    """Send a model to the workers of a dask cluster; see `cluster.connected`. Needs the library ``distributed``."""
    try:
        from .cluster import connected
    except ImportError as error:
        raise SettingError(
            f"Expected the library distributed for work on several processes, found none ({error}): "
            'pip install "napari-direct-denoiser[distributed]"'
        ) from error
    return connected(load, content, scheduler=scheduler, workers=workers)


def _check_first(image: Any, axes: str, name: str) -> None:
    """Check the middle of the first plane as any image is checked: it shows what kind of image this is."""
    shape = tuple(image.shape)
    if not math.prod(shape):
        raise ImageError(f"Expected an image with pixels, found shape {shape} in {name}: it is empty")
    sides = zip(axes, shape, strict=True)
    region = tuple(middle(side, _CHECKED_SIDE, 1) if axis in "YX" else slice(0, 1) for axis, side in sides)
    first = as_planes(np.asarray(sliceable(image)[region]), axes, name=name)
    check_planes(first, min_side=MIN_SIDE, name=name, require_contrast=False)


def _parts(output: Output, target: Any, block: Block) -> list[Region]:
    """Where the results of a block belong in a target: each sample is a part of its own."""
    samples = [(slice(n, n + 1),) for n in range(target.shape[0])] if output == "sample" else [()]
    return [(*sample, *block.region) for sample in samples]


def _is_done(output: Output, target: Any, block: Block) -> bool:
    return isinstance(target, Resumable) and all(map(target.is_done, _parts(output, target, block)))


@dataclass(frozen=True)
class _Work:
    """What is done with each block; it goes to the workers with each of them."""

    targets: Mapping[Output, Any]
    axes: str
    samples: int
    seed: int
    first: int
    name: str

    def steps(self, model: CoModel, block: Block, part: Any) -> Generator[Progress, None, dict[Output, int]]:
        """Read, denoise and write a block; gives the number of clipped pixels by output."""
        results = yield from self.denoised(model, block, part)
        return {output: self._write(output, block, pixels) for output, pixels in results.items()}

    def denoised(
        self, model: CoModel, block: Block, part: Any
    ) -> Generator[Progress, None, dict[Output, NDArray[np.float32]]]:
        """Read and denoise a block."""
        window = np.asarray(part)
        check_finite(as_planes(window, self.axes), self.name, [each.start for each in block.window])
        shapes = {
            output: (target.shape[0], *window.shape) if output == "sample" else window.shape
            for output, target in self.targets.items()
        }
        results: dict[Output, Any] = {output: np.zeros(shape, np.float32) for output, shape in shapes.items()}
        yield from denoise_into(
            model,
            window,
            results,
            axes=self.axes,
            samples=self.samples,
            seed=self.seed,
            first=self.first + block.plane,
            check=False,
        )
        return {output: result[(..., *block.inner)] for output, result in results.items()}

    def on_worker(self, model: Callable[[], CoModel], block: Block, part: Any) -> dict[Output, int] | ImageError:
        """Do the same at once. A bad block is a result: the worker has not failed, and need not try again."""
        try:
            return drain(self.steps(model(), block, part))
        except ImageError as error:
            return error

    def _write(self, output: Output, block: Block, pixels: NDArray[np.float32]) -> int:
        """Convert and write what was denoised; gives the number of clipped pixels."""
        target = self.targets[output]
        converted, clipped = to_dtype(pixels, target.dtype)
        parts = converted[:, None] if output == "sample" else [converted]
        try:
            for where, part in zip(_parts(output, target, block), parts, strict=True):
                target[where] = part
        except OSError as error:
            raise DenoiserError(
                f"The result could not be written ({error.strerror or error}): make room or choose another place"
            ) from error
        return clipped


Outcome = tuple[Block | None, int, dict[Output, int] | ImageError | None]
"""A block, how many pixels were done since the last one, and once it has ended its result or its error."""


def _walk(
    outcomes: Generator[Outcome, None, None], total: int, outputs: Collection[Output], *, go_on: bool
) -> Generator[Progress, None, Written]:
    clock, written, planes, bad = WorkClock(total), Written(clipped=dict.fromkeys(outputs, 0)), set(), []
    with closing(outcomes):
        for block, pixels, outcome in outcomes:
            if isinstance(outcome, ImageError):
                if not go_on:
                    raise outcome
                bad.append(outcome)
            elif outcome is not None and block is not None:
                planes.add(block.plane)
                for output, clipped in outcome.items():
                    written.clipped[output] += clipped
            if clock.tick(pixels):
                yield clock.progress()
    if bad:
        more = f"; {len(bad) - 1} more of its blocks are bad" if len(bad) > 1 else ""
        raise ImageError(f"{bad[0]}{more}") from bad[0]
    written.planes = len(planes)
    return written


def _here(model: CoModel, tasks: Iterable[tuple[Block, Any]], work: _Work) -> Generator[Outcome, None, None]:
    """Compute one block after another, in this thread."""
    process = psutil.Process()
    before = process.memory_info().rss
    with reusing_memory(model.device):
        for block, part in tasks:
            steps = Steps(work.steps(model, block, part))
            outcome: dict[Output, int] | ImageError
            try:
                for pixels in _counted(steps, block):
                    yield None, pixels, None
                    # Windows of tiles differ in size: memory kept of one does not fit the next.
                    if block.is_tile and process.memory_info().rss - before > _MOST_KEPT:
                        free_memory(model.device)
                outcome = steps.result
            except ImageError as error:
                outcome = error
            yield block, 0, outcome


def _counted(steps: Steps[Progress, Any], block: Block) -> Iterator[int]:
    """Give how many pixels of a block were denoised since the last time."""
    told = 0
    for progress in steps:
        done = int(progress.fraction * block.pixels)
        yield done - told
        told = done
    yield block.pixels - told


def _there(cluster: Cluster, tasks: Iterable[tuple[Block, Any]], work: _Work) -> Generator[Outcome, None, None]:
    """Compute the blocks on the workers of a cluster, each when one is free."""
    calls = ((block, partial(work.on_worker, cluster.model, block), part) for block, part in tasks)
    with closing(cluster.run(calls)) as results:
        for block, outcome in results:
            yield block, 0 if block is None else block.pixels, outcome
