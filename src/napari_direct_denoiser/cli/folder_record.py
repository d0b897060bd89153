"""What made the images of a folder, so that a run that is started again skips what is done."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.files import check_folder, replacing
from ..data.read_json import read_json
from ..errors import SettingError

NAME = "direct-denoiser.json"
_SECONDS = 5.0  # between two writings: of ten thousand small images, each writes all


class FolderRecord:
    """The file `NAME` of a folder of results: the run, and for each result the image it was made from.

    Parameters
    ----------
    folder
        Where the results are. It is made by `begin` if it is missing.
    run
        What all results depend on: anything that JSON can hold.
    overwrite
        Replace results of another run.

    Raises
    ------
    SettingError
        If the folder cannot be made or written to, or its results are those of another run.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], *, overwrite: bool) -> None:
        check_folder(folder, what="results", create=True)
        self._file, self._run, self._overwrite = folder / NAME, json.loads(json.dumps(run)), overwrite
        self._written = -float("inf")
        found = self._read()
        other = bool(found) and found.get("run") != self._run
        if other and not overwrite:
            raise SettingError(
                f"Expected a folder of the same model and settings, found {folder} of another run "
                f"({self._difference(found)}): choose another folder, or --overwrite"
            )
        self._files: dict[str, Any] = {} if other or not found else found["files"]

    def check(self, names: Sequence[str]) -> None:
        """Raise `SettingError` if a file of these names is there that no run recorded."""
        strange = [name for name in names if name not in self._files and (self._file.parent / name).exists()]
        if strange and not self._overwrite:
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            raise SettingError(
                f"Expected no file of another origin in {self._file.parent}, found {strange[0]}{more}: "
                "choose another folder, or --overwrite"
            )

    def is_done(self, name: str, source: Mapping[str, Any]) -> bool:
        """Whether a result is there, and was made from this image."""
        known = self._files.get(name, {})
        return bool(known.get("done") and known["source"] == source and (self._file.parent / name).exists())

    def begin(self, sources: Mapping[str, Mapping[str, Any]]) -> None:
        """Record results that are going to be made, by name, with the identity of the image of each."""
        self._file.parent.mkdir(exist_ok=True)
        self._files |= {name: {"source": source, "done": False} for name, source in sources.items()}
        self.write()

    def finish(self, name: str) -> None:
        """Record that a result is written; `write` must follow the last one."""
        self._files[name]["done"] = True
        if time.monotonic() - self._written > _SECONDS:
            self.write()

    def write(self) -> None:
        """Write the record."""
        with replacing(self._file) as draft:
            draft.write_text(json.dumps({"run": self._run, "files": self._files}, indent=1), encoding="utf-8")
        self._written = time.monotonic()

    def _read(self) -> dict[str, Any]:
        if not self._file.exists():
            return {}
        try:
            found = read_json(self._file)
            files = {name: {"source": each["source"], "done": each["done"]} for name, each in found["files"].items()}
            return {"run": found["run"], "files": files}
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise SettingError(
                f"Expected a record of a run, found {self._file} which cannot be read as one: "
                "choose another folder, or remove this file"
            ) from error

    def _difference(self, found: Mapping[str, Any]) -> str:
        """What differs, as it was in that run."""
        before = found["run"] if isinstance(found["run"], dict) else {}
        names = [name for name, now in self._run.items() if before.get(name) not in (None, now)]
        words = ["another model" if name == "model" else f"{name} {before[name]}" for name in names]
        return ", ".join(words) or "other settings"
