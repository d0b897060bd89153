"""Tables that compare denoised images: against the truth, or by their residuals if there is no truth.

The residual is noisy - result. That of a perfect result is the noise: uncorrelated between neighbours (if the noise
is), with the variance of the noise model.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.images import PlaneStack
from ..errors import ImageError
from ..progress import Progress, WorkClock
from .metrics import psnr, ssim

if TYPE_CHECKING:
    from ..co_model import CoModel

Variance = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Variance of the noise (counts^2) as a function of the signal (counts)."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A result to compare, and how it was made.

    Attributes
    ----------
    planes
        As many as the noisy image has, of the same shape and units.
    method
        direct, mean, median, or a description of another method.
    samples
        Number of posterior samples used, 0 for the direct pass; None if not known.
    seconds
        Computing time; None if not known.
    name
        Name to show.
    """

    planes: PlaneStack
    method: str
    samples: int | None = None
    seconds: float | None = None
    name: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table: a result, how it was made, and its figures, each the mean over all planes.

    A figure is None if the input that it needs was not given.

    Attributes
    ----------
    name, method, samples, seconds
        As in `Judged`.
    megapixels_per_second
        Of all planes together.
    psnr, ssim
        Against the truth; PSNR in dB, as in the paper.
    residual_correlation_x, residual_correlation_y
        Correlation of the residual between neighbours. Near 0: white. Far from 0: structure was removed with the noise,
        unless the noise itself is correlated.
    chi_square
        Mean squared residual in units of the noise model's variance at the result. Near 1: as large as the noise. Well
        below 1: noise remains (slightly below is usual, because the result has seen the pixel). Well above 1: structure
        was removed.
    rms_from_direct, rms_from_final_mean
        Root mean squared difference from the direct pass, and from the mean of the most samples; counts.
    estimated_gain_db, estimated_gain_error_db
        How much better than the best Gaussian blur it is, estimated without a truth, and the standard error of that;
        dB. See `estimated_errors.with_estimated_gains`.
    estimated_gain_why
        Why the gain is not known.
    """

    name: str
    method: str
    samples: int | None = None
    seconds: float | None = None
    megapixels_per_second: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    residual_correlation_x: float | None = None
    residual_correlation_y: float | None = None
    chi_square: float | None = None
    rms_from_direct: float | None = None
    rms_from_final_mean: float | None = None
    estimated_gain_db: float | None = None
    estimated_gain_error_db: float | None = None
    estimated_gain_why: str | None = None


def neighbour_correlation(residual: NDArray[Any], axis: int) -> float | None:
    """Correlation of a residual (H, W) with itself shifted by one pixel along an axis; None if it is constant."""
    lines = np.moveaxis(residual, axis, -1).astype(np.float64)
    here, next_to_it = lines[..., :-1], lines[..., 1:]
    if not here.size:
        return None
    here, next_to_it = here - here.mean(), next_to_it - next_to_it.mean()
    norm = math.sqrt(float(np.square(here).sum() * np.square(next_to_it).sum()))
    return float((here * next_to_it).sum()) / norm if norm else None


def chi_square(noisy: NDArray[Any], image: NDArray[Any], variance: Variance) -> float:
    """Chi-square per pixel of a result (H, W): mean of (noisy - image)^2 / variance(image)."""
    return float(np.mean(np.square(noisy - image.astype(np.float64)) / variance(image.astype(np.float32))))


def rms(difference: NDArray[Any]) -> float:
    """Root mean square."""
    return math.sqrt(float(np.mean(np.square(difference, dtype=np.float64))))


def plane_figures(
    noisy: NDArray[Any],
    image: NDArray[Any],
    *,
    truth: NDArray[Any] | None = None,
    variance: Variance | None = None,
    direct: NDArray[Any] | None = None,
    final_mean: NDArray[Any] | None = None,
) -> dict[str, float | None]:
    """Compute the figures of one plane (H, W) of a result, by their name in `Row`.

    Raises
    ------
    ImageError
        If the truth is constant, or smaller than the window of SSIM.
    """
    image = image.astype(np.float64)  # differences of unsigned integers would wrap around
    residual = noisy - image
    return {
        "psnr": None if truth is None else psnr(image, truth),
        "ssim": None if truth is None else ssim(image, truth),
        "residual_correlation_x": neighbour_correlation(residual, 1),
        "residual_correlation_y": neighbour_correlation(residual, 0),
        "chi_square": None if variance is None else chi_square(noisy, image, variance),
        "rms_from_direct": None if direct is None else rms(image - direct),
        "rms_from_final_mean": None if final_mean is None else rms(image - final_mean),
    }


def table_steps(
    noisy: PlaneStack,
    results: Sequence[Judged],
    *,
    truth: PlaneStack | None = None,
    variance: Variance | None = None,
    final_mean: PlaneStack | None = None,
) -> Generator[Progress, None, list[Row]]:
    """Compare results plane by plane; a generator of progress that returns the table.

    Parameters
    ----------
    noisy
        The noisy planes.
    results
        Denoised images. All are compared with the first one of method ``"direct"``.
    truth
        Planes without noise, or one plane for all.
    variance
        Variance of the noise, see `noise_variance`.
    final_mean
        Mean of the most samples.

    Raises
    ------
    ImageError
        If shapes differ, or a plane of the truth is constant.
    """
    direct = next((result.planes for result in results if result.method == "direct"), None)
    others = {"the truth": truth, "the direct pass": direct, "the mean of all samples": final_mean}
    found: list[list[dict[str, float | None]]] = [[] for _ in results]
    pixels, clock = 0, WorkClock(len(noisy) * len(results))
    for number in range(len(noisy)):
        plane = noisy[number]
        pixels += plane.size
        true_plane, direct_plane, final_plane = (
            None if stack is None else _read(stack, number, plane.shape, name) for name, stack in others.items()
        )
        for index, result in enumerate(results):
            image = _read(result.planes, number, plane.shape, result.name or result.method)
            found[index].append(
                plane_figures(
                    plane, image, truth=true_plane, variance=variance, direct=direct_plane, final_mean=final_plane
                )
            )
            if clock.tick(1):
                yield clock.progress()
    return [_row(result, figures, pixels) for result, figures in zip(results, found, strict=True)]


def noise_variance(model: CoModel) -> Variance:
    """Variance of a model's noise as a function of numpy arrays."""
    import torch  # late: the docks open without it

    noise, device = model.noise, model.device

    def variance(signal: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = noise.variance(torch.from_numpy(signal).to(device)).cpu().numpy()
        return found

    return variance


def table_text(rows: Sequence[Row], delimiter: str = ",") -> str:
    """Format a table with a header line: comma-separated for a file, tab-separated for the clipboard."""
    text = StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow([field.name for field in fields(Row)])
    for row in rows:
        writer.writerow([_text(value) for value in asdict(row).values()])
    return text.getvalue()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _read(stack: PlaneStack, number: int, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Read a plane, or the only one, and check that it has the shape of the noisy plane."""
    plane = stack[number if len(stack) > 1 else 0]
    if plane.shape != shape:
        raise ImageError(
            f"Expected planes of the noisy image's shape {shape}, found {plane.shape} in {name}: "
            "choose images that belong together"
        )
    return plane


def _row(result: Judged, figures: Sequence[dict[str, float | None]], pixels: int) -> Row:
    def mean(name: str) -> float | None:
        values = [each[name] for each in figures]
        return None if None in values else float(np.mean(values))  # type: ignore[arg-type]

    return Row(
        name=result.name,
        method=result.method,
        samples=result.samples,
        seconds=result.seconds,
        megapixels_per_second=pixels / 1e6 / result.seconds if result.seconds else None,
        **{name: mean(name) for name in figures[0]},  # type: ignore[arg-type]
    )
