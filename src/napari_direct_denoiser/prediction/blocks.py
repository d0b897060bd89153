"""Images of any size, denoised block by block, on this computer or on the workers of a dask cluster.

A block is a plane. A plane of more than `TILE` x `TILE` pixels is cut into tiles of that side where one pass gives all
outputs, so that memory stays bounded. Samples are drawn of whole planes, and so is the direct pass where the noise
model has lines, which are seen in whole rows only.

Each block is read, denoised, converted and written before the next one, by whoever computes it. What `Target.is_done`
says is written is not computed again.

dask's `map_overlap` is not used: it reads nine blocks of a file for each tile, and a graph of 100 000 planes takes as
many steps to find one of them. Here a task has its own small graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..config import MIN_SIDE
from ..data.axes import Region
from ..data.dtypes import to_dtype
from ..data.images import as_planes, check_finite, check_planes, middle
from ..data.views import sliceable
from ..errors import DenoiserError, ImageError
from ..noise import LineNoise
from ..progress import Progress, Steps, WorkClock, drain
from ..system import reusing_memory
from .predict import check_request, denoise_into
from .tiling import Output, in_one_pass

if TYPE_CHECKING:
    from ..co_model import CoModel
    from .cluster import Cluster

TILE = 4096
"""Side of a tile in pixels, and of the largest plane that is not cut."""
_CHECKED_SIDE = 2048  # pixels of the first plane that are checked before the work


@runtime_checkable
class Resumable(Protocol):
    """What a target has that keeps its blocks when the process ends: `data.ome_zarr.ZarrImage`."""

    def is_done(self, region: Region, /) -> bool:
        """Whether all pixels of a region are written."""


@dataclass(frozen=True)
class Block:
    """A part of an image that is denoised at once.

    Attributes
    ----------
    plane
        Number of its plane.
    region
        Where it lies in the image: one slice for each axis.
    window
        What is read for it: the region, and up to `CoModel.halo` pixels around a tile.
    """

    plane: int
    region: Region
    window: Region

    @property
    def inner(self) -> Region:
        """Where the region lies in the window."""
        pairs = zip(self.region, self.window, strict=True)
        return tuple(slice(part.start - whole.start, part.stop - whole.start) for part, whole in pairs)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return math.prod(part.stop - part.start for part in self.region)


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


def block_sides(model: CoModel, shape: tuple[int, ...], axes: str, outputs: Collection[Output]) -> tuple[int, int]:
    """Sides along Y and X of the blocks of an image, pixels: its planes, or tiles of them."""
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    whole = isinstance(model.noise, LineNoise) or not all(in_one_pass(model, output) for output in outputs)
    return (height, width) if whole or height * width <= TILE**2 else (min(height, TILE), min(width, TILE))


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

    The results are those of `denoise_into`, bit for bit on the same device. In planes that are cut into tiles, other
    pixels around a tile change the direct pass by under 1e-3 of its range; see `CoModel.halo`.

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
    SettingError
        As `denoise_into`: at once.
    ImageError
        If the image cannot be denoised: at once. If a block cannot be read, or has pixels that are NaN, infinite or
        beyond float32: in the end, when all others are written.
    DenoiserError
        If memory runs out, a network fails, or the results cannot be written.
    """
    check_request(targets, samples, targets["sample"].shape[0] if "sample" in targets else samples)
    _check_first(image, axes, name)
    sides = block_sides(model, tuple(image.shape), axes, targets)
    work = _Work(targets, axes, samples, seed, first, name)

    def missing() -> Iterator[Block]:  # not kept: there may be a million
        blocks = _blocks(tuple(image.shape), axes, sides, model.halo)
        return (block for block in blocks if not all(_is_done(*each, block) for each in targets.items()))

    total = sum(block.pixels for block in missing())
    tasks = ((block, sliceable(image)[block.window]) for block in missing())
    return _walk(_here(model, tasks, work) if cluster is None else _there(cluster, tasks, work), total, targets)


def _check_first(image: Any, axes: str, name: str) -> None:
    """Check the middle of the first plane as any image is checked: it shows what kind of image this is."""
    shape = tuple(image.shape)
    if not math.prod(shape):
        raise ImageError(f"Expected an image with pixels, found shape {shape} in {name}: it is empty")
    sides = zip(axes, shape, strict=True)
    region = tuple(middle(side, _CHECKED_SIDE, 1) if axis in "YX" else slice(0, 1) for axis, side in sides)
    first = as_planes(np.asarray(sliceable(image)[region]), axes, name=name)
    check_planes(first, min_side=MIN_SIDE, name=name, require_contrast=False)


def _blocks(shape: tuple[int, ...], axes: str, sides: tuple[int, int], halo: int) -> Iterator[Block]:
    """Cut an image into blocks, plane by plane and row by row."""
    sizes = dict(zip(axes, shape, strict=True))
    tiles = list(product(*(_cut(sizes[axis], side, halo) for axis, side in zip("YX", sides, strict=True))))
    for number, index in enumerate(np.ndindex(*(size for axis, size in sizes.items() if axis not in "YX"))):
        for tile in tiles:
            others = (2 * (slice(at, at + 1),) for at in index)
            pairs = [tile["YX".index(axis)] if axis in "YX" else next(others) for axis in axes]
            yield Block(number, tuple(region for region, _ in pairs), tuple(window for _, window in pairs))


def _cut(size: int, side: int, halo: int) -> list[tuple[slice, slice]]:
    """Cut an axis into tiles, and give the window of each."""
    bounds = ((begin, min(begin + side, size)) for begin in range(0, size, side))
    return [(slice(begin, end), slice(max(begin - halo, 0), min(end + halo, size))) for begin, end in bounds]


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
        return {output: self._write(output, block, result[(..., *block.inner)]) for output, result in results.items()}

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


def _walk(outcomes: Iterable[Outcome], total: int, outputs: Collection[Output]) -> Generator[Progress, None, Written]:
    clock, written, planes, bad = WorkClock(total), Written(clipped=dict.fromkeys(outputs, 0)), set(), []
    for block, pixels, outcome in outcomes:
        if isinstance(outcome, ImageError):
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


def _here(model: CoModel, tasks: Iterable[tuple[Block, Any]], work: _Work) -> Iterator[Outcome]:
    """Compute one block after another, in this thread."""
    with reusing_memory(model.device):
        for block, part in tasks:
            told = 0
            steps = Steps(work.steps(model, block, part))
            outcome: dict[Output, int] | ImageError
            try:
                for progress in steps:
                    done = int(progress.fraction * block.pixels)
                    yield None, done - told, None
                    told = done
                outcome = steps.result
            except ImageError as error:
                outcome = error
            yield block, block.pixels - told, outcome


def _there(cluster: Cluster, tasks: Iterable[tuple[Block, Any]], work: _Work) -> Iterator[Outcome]:
    """Compute the blocks on the workers of a cluster, each when one is free."""
    calls = ((block, partial(work.on_worker, cluster.model, block), part) for block, part in tasks)
    for block, outcome in cluster.run(calls):
        yield block, 0 if block is None else block.pixels, outcome
