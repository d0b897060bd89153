"""Recovery files: the weights of a training so far, in case the viewer is closed or the computer stops.

Each training writes to a folder of its own, which a lock file marks as in use. So several viewers do not clash, and a
folder whose process is gone is offered to the next one.
"""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from qtpy.QtCore import QLockFile, QStandardPaths

from ...data.files import replacing
from ...data.read_json import read_json
from ...errors import DenoiserError

if TYPE_CHECKING:
    from ...denoiser import Denoiser

SECONDS_BETWEEN_WRITES = 30.0
_MODEL, _ABOUT, _LOCK = "model.safetensors", "about.json", "lock"
_LOG = logging.getLogger(__name__)


def recovery_folder() -> Path:
    """Where the recovery files of this user are; it may not exist."""
    data = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericDataLocation)
    return Path(data) / "napari-direct-denoiser" / "recovery"


class RecoveryFile:
    """The recovery file of one training. An error in writing it is logged, and never ends the training.

    Parameters
    ----------
    name
        Name of the model.
    """

    def __init__(self, name: str) -> None:
        self.folder = recovery_folder() / uuid4().hex
        self._name = name
        self._lock: QLockFile | None = None
        self._written = time.monotonic()

    def due(self) -> bool:
        """Whether the last write is long enough ago for the next."""
        return time.monotonic() - self._written > SECONDS_BETWEEN_WRITES

    def write(self, denoiser: Denoiser, steps: int) -> bool:
        """Replace the file by the weights as they are; returns whether that worked."""
        self._written = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._lock is None:
                self._lock = _lock(self.folder)
                if not self._lock.tryLock(0):
                    raise DenoiserError(f"Recovery folder {self.folder} is in use by another training")
            denoiser.save(self.folder / _MODEL)
            with replacing(self.folder / _ABOUT) as draft:
                draft.write_text(json.dumps({"name": self._name, "steps": steps}))
        except (DenoiserError, OSError):
            _LOG.exception("The recovery file of %s could not be written", self._name)
            return False
        return True

    def release(self) -> None:
        """Mark the file as no longer in use."""
        if self._lock is not None:
            self._lock.unlock()
            self._lock = None


@dataclass(frozen=True)
class Recovered:
    """A recovery file that no training uses any more."""

    folder: Path
    name: str
    steps: int

    @property
    def model(self) -> Path:
        """The model file."""
        return self.folder / _MODEL


def recovered() -> list[Recovered]:
    """Find the recovery files of trainings that ended without their dock, newest first."""
    found = []
    for about in recovery_folder().glob(f"*/{_ABOUT}"):
        lock = _lock(about.parent)
        if not lock.tryLock(0):
            continue
        lock.unlock()
        try:
            facts = read_json(about)
            found.append((about.stat().st_mtime, Recovered(about.parent, str(facts["name"]), int(facts["steps"]))))
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            _LOG.exception("The recovery file %s could not be read", about)
    return [each for _, each in sorted(found, key=lambda item: -item[0])]


def discard(folder: Path | None) -> None:
    """Delete a recovery file."""
    if folder is None or not folder.is_dir():
        return
    try:
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
        os.rmdir(folder)
    except OSError:
        _LOG.exception("The recovery file %s could not be deleted", folder)


def _lock(folder: Path) -> QLockFile:
    lock = QLockFile(str(folder / _LOCK))
    lock.setStaleLockTime(0)  # a lock is stale when its process is gone, however old it is
    return lock
