"""Table 1 and Figure 1 of the paper for a user's own images: from files to a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.files import check_folder, replacing
from ..data.images import as_planes, check_planes
from ..data.io import write_image
from ..denoiser import load
from ..errors import ImageError
from ..evaluation.compare import Row, noise_variance, table_steps, table_text
from ..evaluation.estimated_errors import with_estimated_gains
from ..evaluation.metrics import ssim
from ..evaluation.sample_convergence import sample_convergence_steps
from ..progress import drain
from .options import named_like, open_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..evaluation.sample_convergence import SampleConvergence
    from ..progress import Progress

TABLE = "compare.csv"


def compare_files(
    image: Path,
    model: Path,
    truth: Path | None,
    samples: Sequence[int],
    folder: Path,
    report: Callable[[Progress], None],
    *,
    student: str | None = None,
    axes: str | None = None,
    channel: int | None = None,
) -> list[Row]:
    """Denoise every plane directly and by means of more and more samples, and write all results.

    Parameters
    ----------
    image, model, truth
        Files to read. The truth has the shape of the image, or is one plane for all.
    samples
        Numbers of samples after which to take the mean.
    folder
        Folder for the results, made if missing: ``compare.csv`` (the table, which is also the curve: PSNR over
        seconds), ``direct.tif``, ``hdn_mean_N.tif`` for each N, ``uncertainty.tif`` (standard deviation of the samples,
        counts) and ``disagreement.tif`` (direct minus the last mean, in units of the expected deviation).
    report
        Called with the progress.
    student
        Name of the student whose direct pass is compared; if None, the first of the model.
    axes, channel
        Axes of the image, and which channel to take; as for the command ``denoise``.

    Raises
    ------
    DenoiserError
        If a file cannot be read or written, or images do not belong together: before any work.
    """
    check_folder(folder, create=True)
    file, known = open_image(image, axes, channel)
    denoiser = load(model, student=student)
    planes = denoiser.planes(file.data, known)
    file = named_like(file, planes.axes)
    true_planes = None if truth is None else _read_truth(truth, planes.data, axes)
    result = drain(sample_convergence_steps(denoiser.model, planes.data, samples), report)
    table = table_steps(
        planes.data,
        result.judged(),
        truth=true_planes,
        variance=noise_variance(denoiser.model),
        final_mean=result.means[-1],
    )
    judging = with_estimated_gains(
        denoiser.model, planes.data, result.judged(), drain(table), own=[True] * (len(result.samples) + 1)
    )
    rows = drain(judging)
    folder.mkdir(exist_ok=True)
    for name, found in _images(result).items():
        write_image(folder / f"{name}.tif", planes.restore(found), like=file)
    with replacing(folder / TABLE) as draft:
        draft.write_text(table_text(rows), encoding="utf-8")
    return rows


def _read_truth(path: Path, noisy: NDArray[Any], axes: str | None) -> NDArray[Any]:
    """Read the truth, and refuse now what would fail after the work."""
    file, known = open_image(path)
    if axes and len(axes) == file.data.ndim:  # the truth may be one plane
        known = axes
    planes = as_planes(file.data, known, name=str(path))
    if planes.data.dtype.kind in "iu":  # flat areas look like labels, but a truth may have them
        planes = replace(planes, data=planes.data.astype(np.float32))
    check_planes(planes, min_side=1, name=str(path), require_contrast=False)
    if planes.data.shape not in (noisy.shape, (1, *noisy.shape[1:])):
        raise ImageError(
            f"Expected a truth of the image's planes {noisy.shape} or one plane of them, "
            f"found {planes.data.shape} in {path}: give the truth of this image"
        )
    for plane in planes.data:
        ssim(plane, plane)  # refuses a plane that is too small or has no contrast
    return planes.data


def _images(result: SampleConvergence) -> dict[str, NDArray[Any]]:
    """Images to write, by file name."""
    images: dict[str, NDArray[Any]] = {"direct": result.direct}
    images |= {f"hdn_mean_{n}": mean for n, mean in zip(result.samples, result.means, strict=True)}
    if result.std is not None and result.disagreement is not None:
        images |= {"uncertainty": result.std, "disagreement": result.disagreement}
    return images
