"""Many image files to denoise: each on its own, into a folder; a bad one does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.files import IMAGE_SUFFIXES
from ..errors import DenoiserError, ImageError, SettingError
from ..progress import Progress, WorkClock
from .denoise_file import Done, FileWork, Recipe, Report, source_identity
from .folder_record import FolderRecord

if TYPE_CHECKING:
    from ..prediction.cluster import Cluster


@dataclass
class Outcome:
    """What became of many images."""

    done: list[tuple[Path, Path, Done]] = field(default_factory=list)
    """Image, result, and what was done to it."""
    failed: list[tuple[Path, str]] = field(default_factory=list)
    """Image, and why it could not be denoised."""


def denoise_many(
    recipe: Recipe, images: Sequence[Path], folder: Path, report: Report, connect: Callable[[], Cluster | None]
) -> Outcome:
    """Denoise each image into a file of the same name in a folder; what is done is skipped.

    Parameters
    ----------
    recipe
        What is done to each image.
    images, folder
        The images, and where the results go: made if it is missing.
    report
        Receives the progress over all images.
    connect
        Gives the cluster that zarr results are computed on, None for this process; called when all is checked.

    Raises
    ------
    SettingError
        Before any work: two images of one name, results in the place of the images, a folder of another run.
    DenoiserError
        If results cannot be written. Those that are written stay.
    """
    outcome = Outcome()
    targets = _targets(images, folder)
    record = FolderRecord(folder, {**recipe.identity, "ome_zarr": recipe.version}, overwrite=recipe.overwrite)
    record.check([target.name for target in targets.values()])
    left = {}
    for path, target in targets.items():
        if record.is_done(target.name, source_identity(path)):
            outcome.done.append((path, target, Done(0, 0.0, skipped=True)))
        else:
            left[path] = target
    if not left:
        return outcome
    record.begin({target.name: source_identity(path) for path, target in left.items()})
    recipe = replace(recipe, overwrite=True)  # what is there is of this run, or may be replaced
    works = []
    for path, target in left.items():
        try:
            works.append(FileWork(recipe, path, target))
        except (DenoiserError, OSError) as error:
            outcome.failed.append((path, str(error)))
    try:
        _run(works, record, outcome, report, connect() if works else None)
    finally:
        record.write()
    return outcome


def _targets(images: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Find the result of each image."""
    if folder.suffix.lower() in IMAGE_SUFFIXES:
        raise SettingError(f"Expected a folder for the results of many images, found {folder}: name a folder")
    targets: dict[Path, Path] = {}
    for path in images:
        target = folder / path.name
        twin = next((other for other, known in targets.items() if known == target), None)
        if twin is not None:
            raise SettingError(
                f"Expected images of different names, found {twin} and {path}: rename one, or denoise them separately"
            )
        if target.resolve() == path.resolve():
            raise SettingError(f"Expected another folder than that of the images, found {folder}: choose another")
        targets[path] = target
    return targets


def _run(
    works: Sequence[FileWork], record: FolderRecord, outcome: Outcome, report: Report, cluster: Cluster | None
) -> None:
    clock, before = WorkClock(sum(work.pixels for work in works)), 0

    def told(progress: Progress) -> None:
        clock.done = before + round(progress.fraction * work.pixels)
        report(clock.progress())

    for work in works:
        try:
            outcome.done.append((work.path, work.target, work.run(told, cluster)))
            record.finish(work.target.name)
        except (DenoiserError, OSError, MemoryError) as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error, ImageError):
                raise  # a full disk is full for the others, too
            outcome.failed.append((work.path, str(error) or type(error).__name__))
        before += work.pixels
