"""One image file to denoise: opened, planned, and written as TIFF, npy or OME-Zarr."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import DenoiseSettings, OmeZarrVersion
from ..data.dtypes import result_dtype
from ..data.io import WritePlan, check_output, plan_image, write_planned
from ..data.ome_zarr import SUFFIX, ZarrImage, check_zarr_target, draft_of, finished_identity
from ..data.pixel_size import pixel_size
from ..denoiser import Denoiser
from ..errors import ImageError, SettingError
from ..prediction.blocks import block_sides
from ..prediction.streaming import Written, denoise_blocks, denoised_planes
from ..prediction.tiling import in_one_pass
from ..progress import Progress, drain
from .options import lazy_image, named_like

if TYPE_CHECKING:
    from ..prediction.cluster import Cluster
    from ..prediction.tiling import Output

Report = Callable[[Progress], object]


@dataclass(frozen=True)
class Recipe:
    """What is done to each image."""

    denoiser: Denoiser
    model: str
    """Digest of the model file."""
    student: str | None
    """Name of the student to use; the first of the model if not given."""
    settings: DenoiseSettings
    output: Output
    axes: str | None
    channel: int | None
    version: OmeZarrVersion | None
    """Of OME-Zarr; that of the input if not given."""
    overwrite: bool

    @property
    def samples(self) -> int | None:
        """Number of samples that are drawn; None for the direct pass."""
        return None if in_one_pass(self.denoiser.model, self.output) else self.settings.samples

    @property
    def identity(self) -> dict[str, Any]:
        """What the pixels of a result depend on, beside the image."""
        return {
            "model": self.model,
            **({} if self.student is None else {"student": self.student}),  # results of older versions have none
            "method": self.output,
            "samples": self.samples,
            "seed": None if self.samples is None else self.settings.seed,
            "dtype": self.settings.dtype,
            "axes": self.axes,
            "channel": self.channel,
        }


@dataclass(frozen=True)
class Done:
    """What was done to an image."""

    planes: int
    seconds: float
    clipped: int = 0
    skipped: bool = False
    """It was done already."""


def source_identity(path: Path) -> dict[str, Any]:
    """What changes when an image file is replaced by another."""
    file = next(
        (path / name for name in ("zarr.json", ".zattrs", ".zgroup", ".zarray") if (path / name).exists()), path
    )
    found = file.stat()
    return {"path": str(path.resolve()), "bytes": found.st_size, "modified": found.st_mtime_ns}


class FileWork:
    """One image to denoise. Making it opens the image and plans the output; nothing is computed or written.

    Raises
    ------
    ImageError
        If the image cannot be read, or its axes do not fit.
    SettingError
        If the output cannot be written, or is there and of another run.
    """

    def __init__(self, recipe: Recipe, path: Path, target: Path) -> None:
        self.recipe, self.path, self.target = recipe, path, target
        if self.to_zarr and target.resolve() == path.resolve():
            raise SettingError(f"Expected an output other than the image itself, found {target}: choose another")
        if not self.to_zarr:
            check_output(target)
        # Workers have working folders of their own.
        file, known = lazy_image(path.absolute(), recipe.axes, recipe.channel)
        self.axes = recipe.denoiser.axes_of(file.data.shape, known)
        self.file = named_like(file, self.axes)
        self.kept = recipe.settings.samples if recipe.output == "sample" else None
        self.dtype = result_dtype(recipe.settings.dtype, file.data.dtype, recipe.output)
        self._plan: WritePlan | None = None
        if self.to_zarr:
            self._check_zarr()
        else:
            shape = tuple(file.data.shape)
            self._plan = plan_image(target, shape, self.file, samples=self.kept, dtype=self.dtype)

    @property
    def to_zarr(self) -> bool:
        """Whether the result is an OME-Zarr, which is written block by block and gone on with."""
        return self.target.suffix == SUFFIX

    @property
    def planes(self) -> int:
        """Number of planes."""
        sizes = zip(self.axes, self.file.data.shape, strict=True)
        return math.prod(size for axis, size in sizes if axis not in "YX")

    @property
    def pixels(self) -> int:
        """Number of pixels of the image."""
        return math.prod(self.file.data.shape)

    @property
    def result_pixels(self) -> int:
        """Number of pixels of the result."""
        return self.pixels * (self.kept or 1)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the pixels of the result depend on."""
        image = {"shape": list(self.file.data.shape), "dtype": str(self.file.data.dtype), "axes": self.axes}
        return {**self.recipe.identity, "source": {**source_identity(self.path), **image}}

    @cached_property
    def is_done(self) -> bool:
        """Whether a result of the same model, settings and image is there."""
        return self.to_zarr and finished_identity(self.target) == self.identity

    def run(self, report: Report, cluster: Cluster | None = None) -> Done:
        """Denoise and write.

        Raises
        ------
        DenoiserError
            As `denoise_blocks`.
        """
        began = time.perf_counter()
        if self.is_done:
            return Done(0, 0.0, skipped=True)
        written = self._into_zarr(report, cluster) if self._plan is None else self._into_file(self._plan, report)
        return Done(written.planes, time.perf_counter() - began, sum(written.clipped.values()))

    def _check_zarr(self) -> None:
        found = self.target.exists() and not self.is_done
        if found and not self.recipe.overwrite:
            raise SettingError(
                f"Expected no {self.target}, or one of the same model, settings and image, found one of another run: "
                "choose another output, or --overwrite"
            )
        check_zarr_target(self.target)
        draft = draft_of(self.target)
        if self.recipe.overwrite and finished_identity(draft) != self.identity:
            shutil.rmtree(draft, ignore_errors=True)

    def _into_zarr(self, report: Report, cluster: Cluster | None) -> Written:
        recipe, shape, axes = self.recipe, tuple(self.file.data.shape), self.axes
        scale, translation, units = pixel_size(self.file, axes)
        if self.kept is not None:
            scale, translation, units = [1.0, *scale], [0.0, *translation], [None, *units]
        target = ZarrImage.create(
            self.target.absolute(),
            shape if self.kept is None else (self.kept, *shape),
            axes if self.kept is None else "N" + axes,
            self.dtype,
            block=block_sides(recipe.denoiser.model, shape, axes, [recipe.output]),
            version=recipe.version or self.file.metadata.get("version", "0.5"),
            scale=scale,
            translation=translation,
            units=units,
            identity=self.identity,
        )
        steps = denoise_blocks(
            recipe.denoiser.model,
            self.file.data,
            {recipe.output: target},
            axes=axes,
            samples=recipe.settings.samples,
            seed=recipe.settings.seed,
            name=str(self.path),
            cluster=cluster,
        )
        try:
            written = drain(steps, report)
        except ImageError as error:
            raise ImageError(f"{error}. All other planes are in {draft_of(self.target)}") from error
        target.finish()
        return written

    def _into_file(self, plan: WritePlan, report: Report) -> Written:
        recipe, settings = self.recipe, self.recipe.settings
        if plan.streams:
            planes: Any = denoised_planes(
                recipe.denoiser.model,
                self.file.data,
                recipe.output,
                axes=self.axes,
                samples=settings.samples,
                seed=settings.seed,
                name=str(self.path),
                report=report,
            )
        else:
            steps = recipe.denoiser.denoise_steps(
                self.file.data, [recipe.output], samples=settings.samples, seed=settings.seed, axes=self.axes
            )
            planes = drain(steps, report)[recipe.output]
        return Written(self.planes, {recipe.output: write_planned(plan, planes)})
