"""The runs of the Denoise dock, in a worker thread. They import torch and dask late: the dock opens without them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.dtypes import Converting, result_dtype, to_dtype
from ...data.images import LazyPlanes, Region, sampled_planes
from ...errors import DenoiserError
from ...progress import Progress, mapped
from ..shared.layers import METADATA_KEY, Source, result_name
from ..shared.session import NamedModel
from ..shared.workers import Update

if TYPE_CHECKING:
    from ...co_model import CoModel
    from ...config import DenoiseSettings
    from ...data.ome_zarr import ZarrImage
    from ...prediction.cluster import Cluster
    from ...prediction.tiling import Output

DIRECT_PASS = frozenset[str](("direct", "std"))
"""Outputs of the direct pass; the dock asks for the second only where the model predicts it."""
_PERCENTILE_SHOWN = 99.9  # of a standard deviation: upper contrast limit
_PLANES_SEEN = 8  # planes that are read to find that limit


@dataclass(frozen=True, eq=False)
class Request:
    """Everything that a run needs, read once: layer and dock may change during the run."""

    source: Source
    axes: str
    model: NamedModel
    outputs: tuple[Output, ...]
    settings: DenoiseSettings
    kept: int = 0
    """Number of single samples to keep."""
    region: Region | None = None
    """Region of the source to denoise, one plane; None for all planes."""
    first: int = 0
    """Number of the first plane of the region."""
    as_looked_at: bool = False
    folder: Path | None = None
    """Folder to write zarr folders to; None to keep the results in memory."""
    scheduler: str = ""
    """Address of a dask scheduler whose workers compute; empty for this computer."""

    def samples(self, output: Output) -> int | None:
        """Number of samples in a result; None for the direct pass."""
        if output in DIRECT_PASS:
            return None
        return self.kept if output == "sample" else self.settings.samples

    def student(self, output: Output) -> str | None:
        """Name of the student that gives a result, if the model has several; None for samples."""
        students = self.model.denoiser.students
        return students[0] if len(students) > 1 and output in DIRECT_PASS else None

    def path(self, output: Output) -> Path | None:
        """Zarr folder of a result; None if it stays in memory."""
        if self.folder is None:
            return None
        name = result_name(self.source.name, output, self.samples(output), self.student(output))
        return self.folder / ("".join(c if c.isalnum() or c in " -_.()=" else "_" for c in name) + ".zarr")

    def shape(self, output: Output) -> tuple[int, ...]:
        """Shape of a result."""
        sides = zip(self.axes, self.source.shape, strict=True)
        shape = tuple(side if self.region is None or axis in "YX" else 1 for axis, side in sides)
        return (self.kept, *shape) if output == "sample" else shape

    def dtype(self, output: Output) -> np.dtype[Any]:
        """Dtype of a result."""
        return result_dtype(self.settings.dtype, self.source.dtype, output)

    def facts(self, output: Output, seconds: float | None = None) -> dict[str, Any]:
        """Provenance of a result, for its metadata."""
        samples = self.samples(output)
        return {
            "source": self.source.name,
            "model": self.model.name,
            "method": output,
            "student": self.student(output),
            "samples": samples,
            "seed": None if samples is None else self.settings.seed,
            "seconds": seconds,
            "training": self.model.denoiser.summary(),
            "versions": {name: version(name) for name in ("napari-direct-denoiser", "torch", "napari")},
            "methods": self.methods(output),
        }

    def methods(self, output: Output) -> str:
        """Paragraph on a result for the methods section of a paper."""
        from ...training.methods import methods_paragraph

        drawn = None if output in DIRECT_PASS else self.samples(output)
        return methods_paragraph(self.model.denoiser, output, drawn, self.settings.seed)


@dataclass(frozen=True, eq=False)
class Result:
    """One denoised image, of any kind of array."""

    output: Output
    data: Any
    """A list of arrays, of full size first, for a layer of several levels."""
    limits: tuple[float, float] | None = None
    """Contrast limits, for a standard deviation only."""
    clipped: int = 0
    """How many pixels were beyond the range of the dtype, as far as they are computed."""

    @property
    def clipped_words(self) -> str:
        """A sentence on the clipped pixels."""
        dtype = (self.data[0] if isinstance(self.data, list) else self.data).dtype
        return f"{self.clipped} pixels ({self.output}) were clipped to the range of {dtype}."


@dataclass(frozen=True, eq=False)
class Warned(Update):
    """An update that lists how the image differs from the training images, if it differs strongly."""

    differences: tuple[str, ...] = field(default=())


def denoising(request: Request) -> Generator[Update, None, tuple[list[Result], float]]:
    """Denoise as requested; give the results and the seconds they took."""
    yield Update("Loading PyTorch, checking the image …")
    from ...evaluation.domain_shift import check_domain_shift
    from ...prediction.lazy import denoised

    denoiser = request.model.denoiser
    image: Any = request.source.data
    image = image if request.region is None else image[request.region]
    checking = check_domain_shift(denoiser.model, image, request.axes)
    differences = yield from mapped(checking, lambda progress: Update("Checking the image …", progress.fraction))
    if differences:
        yield Warned("Checking the image …", differences=tuple(differences))
    began = time.perf_counter()
    if request.as_looked_at:
        lazy = {output: denoised(denoiser.model, image, output, axes=request.axes) for output in request.outputs}
        lazy = {output: _in_dtype(data, request.dtype(output)) for output, data in lazy.items()}
        limits = _limits(lazy, request.axes, 1)
        return [Result(output, data, limits.get(output)) for output, data in lazy.items()], time.perf_counter() - began
    try:
        results = yield from _computing(request, image)
    except MemoryError as error:
        raise DenoiserError(
            "Out of memory for the results: choose the zarr folder as result, fewer single samples, or crop the image"
        ) from error
    return results, time.perf_counter() - began


def _computing(request: Request, image: Any) -> Generator[Update, None, list[Result]]:
    """Denoise plane by plane into memory or zarr folders."""
    model = request.model.denoiser.model
    options: dict[str, Any] = {"axes": request.axes, "samples": request.settings.samples, "seed": request.settings.seed}
    options["first"] = request.first
    planes = int(np.prod([side for axis, side in zip(request.axes, image.shape, strict=True) if axis not in "YX"]))

    def update(progress: Progress) -> Update:
        fraction = progress.fraction
        plane = min(int(fraction * planes) + 1, planes)
        return Update(f"Plane {plane} of {planes} …", fraction, progress.remaining_seconds)

    if request.folder is not None:
        return (yield from _into_zarr(request, model, image, options, update))
    from ...prediction.predict import denoise_into

    targets = {output: _target(request, output) for output in request.outputs}
    yield from mapped(denoise_into(model, image, targets, **options), update)
    limits = _limits(targets, request.axes, _PLANES_SEEN)
    results = []
    for output, target in targets.items():
        data, clipped = (target.array, target.clipped) if isinstance(target, Converting) else (target, 0)
        results.append(Result(output, data, limits.get(output), clipped))
    return results


def _into_zarr(
    request: Request, model: CoModel, image: Any, options: Mapping[str, Any], update: Callable[[Progress], Update]
) -> Generator[Update, None, list[Result]]:
    """Denoise block by block into zarr folders, here or on a cluster; nothing is left of a run that is stopped."""
    from ...prediction.streaming import denoise_blocks

    targets: dict[Output, ZarrImage] = {}
    with ExitStack() as stack:
        cluster = None
        if request.scheduler:
            yield Update("Sending the model to the cluster …")
            cluster = stack.enter_context(_connected(request))
        for output in request.outputs:
            targets[output] = _zarr_image(request, output)
            stack.callback(targets[output].discard)
        steps = denoise_blocks(model, image, targets, **options, name=request.source.name, cluster=cluster)
        written = yield from mapped(steps, update)
        smallest = {output: target.levels[-1] for output, target in targets.items()}
        limits = _limits(smallest, request.axes, _PLANES_SEEN)
        for target in targets.values():
            target.finish()
    return [
        Result(output, _levels(target), limits.get(output), written.clipped[output])
        for output, target in targets.items()
    ]


def _levels(image: ZarrImage) -> Any:
    """Open a finished image for a layer: a list of its levels, or the array if it has one level."""
    import dask.array as da
    import zarr

    arrays = [zarr.open_array(str(image.path / str(level)), mode="r") for level in range(len(image.levels))]
    # Names of their own: with those made from the path, napari's cache would show the image that was there before.
    levels = [da.from_array(array, chunks=array.chunks, name=False) for array in arrays]
    return levels if len(levels) > 1 else levels[0]


def _connected(request: Request) -> AbstractContextManager[Cluster]:
    """Send the model to the workers of the scheduler."""
    from ...denoiser import load
    from ...prediction.streaming import connect

    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        request.model.denoiser.save(path)
        return connect(load, path.read_bytes(), scheduler=request.scheduler)


def _in_dtype(lazy: Any, dtype: np.dtype[Any]) -> Any:
    """Convert a dask array of float32 block by block, when it is computed."""
    return lazy if dtype == np.float32 else lazy.map_blocks(lambda block: to_dtype(block, dtype)[0], dtype=dtype)


def _target(request: Request, output: Output) -> Any:
    """Make the array that receives a result, and holds it in its dtype."""
    array = np.zeros(request.shape(output), request.dtype(output))
    return array if array.dtype == np.float32 else Converting(array)


def _zarr_image(request: Request, output: Output) -> ZarrImage:
    from ...data.ome_zarr import ZarrImage
    from ...prediction.blocks import block_sides

    place, path = request.source.appearance, request.path(output)
    assert path is not None
    units = [str(unit) for unit in place["units"]]
    position = {key: np.asarray(place[key]).tolist() for key in ("scale", "translate", "rotate", "shear", "affine")}
    known = {**request.facts(output), "axes": request.axes, "units": units, **position}
    scale, translation, axes = position["scale"], position["translate"], request.axes
    if output == "sample":
        axes, scale, translation, units = "N" + axes, [1.0, *scale], [0.0, *translation], ["pixel", *units]
    return ZarrImage.create(
        path,
        request.shape(output),
        axes,
        request.dtype(output),
        block=block_sides(request.model.denoiser.model, request.source.shape, request.axes, request.outputs),
        scale=scale,
        translation=translation,
        units=units,
        attributes={METADATA_KEY: known},
    )


def _limits(results: Mapping[Output, Any], axes: str, most: int) -> dict[Output, tuple[float, float]]:
    """Contrast limits for maps of standard deviations, from 0, as seen in so many planes."""
    limits: dict[Output, tuple[float, float]] = {}
    for output in ("std", "sample_std"):
        if output in results:
            planes = sampled_planes([LazyPlanes(results[output], axes)], most)
            limits[output] = 0.0, max(float(np.percentile(plane, _PERCENTILE_SHOWN)) for plane in planes) or 1.0
    return limits
