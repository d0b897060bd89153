"""A process that is killed at any moment leaves every file whole or absent, and the work goes on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import works
from other_process import duration, killed, moments, needs_fork, outcome

from napari_direct_denoiser import load
from napari_direct_denoiser.data.io import read_image

pytestmark = needs_fork
Cases = Callable[[int, int], int]
Tally = Callable[[str, int, int], None]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with an image and a model."""
    np.save(tmp_path / "noisy.npy", works.STACK)
    outcome(works.save_model, tmp_path / "m.safetensors")
    return tmp_path


def content(path: Path) -> dict[str, Any]:
    """All of a trained model that does not depend on the clock."""
    denoiser = load(path, "cpu")
    weights = {name: value.numpy().tobytes() for name, value in denoiser.model.state_dict().items()}
    last = denoiser.provenance.history[-1]
    return weights | {
        "normalization": denoiser.model.normalization,
        "calibration": denoiser.model.calibration,
        "steps": (denoiser.provenance.steps, denoiser.provenance.stopped),
        "gain": (last.estimated_gain_db, last.estimated_rise_db),
    }


def is_one(values: Any, of: tuple[float, float] = (1.0, 2.0)) -> bool:
    """Whether all are the first of two values, or all are the second."""
    first = np.ravel(values)[0]
    return bool(first in of and np.all(values == first))


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_model_file_is_whole_or_absent(tmp_path: Path, cases: Cases, tally: Tally) -> None:
    path, tried, survived = tmp_path / "m.safetensors", cases(50, 3), 0
    for number, moment in zip(range(tried), moments(tried, 0.3), strict=False):
        if number % 2:
            path.unlink(missing_ok=True)
        assert killed(moment, works.save_models_for_ever, path)
        survived += not path.exists() or all(
            is_one(value.detach().numpy(), works.WEIGHTS) for value in load(path).model.parameters()
        )
    outcome(works.save_model, path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]  # nothing is left of those that were killed
    tally("a model file is written, and the process killed", tried, survived)


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_an_image_file_is_whole_or_absent(tmp_path: Path, suffix: str, cases: Cases, tally: Tally) -> None:
    path, tried, survived = tmp_path / f"out{suffix}", cases(50, 2), 0
    for number, moment in zip(range(tried), moments(tried, 0.1), strict=False):
        if number % 2:
            path.unlink(missing_ok=True)
        assert killed(moment, works.write_images_for_ever, path)
        survived += not path.exists() or is_one(read_image(path).data)
    outcome(works.write_images, path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    tally(f"a {suffix} is written, and the process killed", tried, survived)


def strike(until: int, most: float, work: Callable[..., Any], *arguments: Any) -> Iterator[int]:
    """Kill a work at random moments of its course; yields after each time, numbered, so often."""
    count = 0
    for moment in moments(until, most):
        if killed(moment, work, *arguments):
            yield count
            count += 1
        if count == until:
            return


def test_a_zarr_is_absent_and_goes_on_to_the_same_bytes(made: Path, cases: Cases, tally: Tally) -> None:
    took = duration(works.denoise, made, "whole.zarr")
    whole, out, tried, survived = digests(made / "whole.zarr"), made / "out.zarr", cases(50, 1), 0
    for _ in strike(tried, took, works.denoise, made, "out.zarr"):
        safe = not out.exists() or digests(out) == whole  # it may have been killed after its work, before its end
        status, _ = outcome(works.denoise, made, "out.zarr")
        survived += safe and status == 0 and digests(out) == whole
        assert {each.name for each in made.iterdir()} == {"noisy.npy", "m.safetensors", "whole.zarr", "out.zarr"}
        shutil.rmtree(out)
    tally("a zarr is written, and the process killed", tried, survived)


def test_a_training_goes_on_to_the_same_weights(made: Path, cases: Cases, tally: Tally) -> None:
    took = duration(works.train_to_end, made, "whole.safetensors")
    whole, tried, survived = content(made / "whole.safetensors"), cases(50, 1), 0
    model, kept = made / "killed.safetensors", made / "killed.resume.safetensors"
    for _ in strike(tried, took, works.train_to_end, made, model.name):
        usable = not model.exists() or load(model).provenance.steps > 0
        status, _ = outcome(works.train_to_end, made, model.name, "--resume")
        survived += usable and status == 0 and content(model) == whole and not kept.exists()
        names = {each.name for each in made.iterdir()}
        assert names == {"noisy.npy", "m.safetensors", "whole.safetensors", model.name}
        model.unlink()
    tally("a model is trained, and the process killed", tried, survived)
