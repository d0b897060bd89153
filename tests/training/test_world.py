"""Several processes train one model: their gradients are those of one process with the whole batch."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import fork_server
import numpy as np
import pytest
import torch
from test_resume import PUBLISHED, QUICK, STACK, go_on, settings, shrink

from napari_direct_denoiser import Denoiser, SettingError, TrainingError
from napari_direct_denoiser.data.patches import PatchSampler
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.training import loop
from napari_direct_denoiser.training.co_trainer import CoTrainer
from napari_direct_denoiser.training.world import ALONE, World, joined

pytestmark = pytest.mark.slow
WHOLE_BATCH = {"resample_noise": False, "redrawn_every": 0, "anneal": "plateau", "batch": 8}  # the same without chance
LATER = 12  # step at which trainings are interrupted: HDN is frozen after 13


def without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32: bfloat16 rounds sums over two halves otherwise than over the whole, by a percent."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)


def gradients(world: World, micro_batch: int) -> np.ndarray:
    """Gradients of both networks after a step in which HDN draws the mean of its posterior."""
    schedule = QUICK.schedule.model_copy(update={**WHOLE_BATCH, "micro_batch": micro_batch})
    trainer = CoTrainer(Denoiser.for_images(STACK, settings()).model, PatchSampler([STACK], 32, 0), schedule, 0, world)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "randn", lambda shape, **options: torch.zeros(shape))
        trainer.step(0.0)
    networks = trainer.learner.hdn, trainer.learner.unet
    return torch.cat([weight.grad.flatten() for each in networks for weight in each.parameters()]).numpy()  # type: ignore[union-attr]


def weights(trainer: CoTrainer) -> np.ndarray:
    """Weights that a training has reached, and their averages."""
    models = trainer.learner, trainer.average
    return torch.cat([each.flatten().double() for model in models for each in model.state_dict().values()]).numpy()


def published(world: World) -> np.ndarray:
    """What `weights` gives after some steps of networks with batch norm and dropout, in two micro-batches each."""
    model = Denoiser.for_images(STACK, settings(preset="paper")).model
    schedule = PUBLISHED.schedule.model_copy(update={"micro_batch": 1})
    trainer = CoTrainer(model, PatchSampler([STACK], 16, 0), schedule, 0, world)
    for _ in range(3):
        trainer.step(0.0)
    return weights(trainer)


def one_of_two(rank: int, port: int, folder: Path) -> None:
    """What each process does; results are files."""
    at = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {**{name: str(value) for name, value in at.items()}, "TORCHELASTIC_RUN_ID": "test"}
    torch.set_num_threads(2)  # both networks side by side
    monkeypatch = pytest.MonkeyPatch()
    with joined() as world:
        shrink(monkeypatch)
        with pytest.MonkeyPatch.context() as patched:
            without_bfloat16(patched)
            found = {f"gradients {micro}": gradients(world, micro) for micro in (4, 2)}
        found["published"] = published(world)
        trainers: list[CoTrainer] = []

        class Watched(CoTrainer):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                trainers.append(self)

        monkeypatch.setattr(loop, "CoTrainer", Watched)
        try:
            world.share_of(3)
        except SettingError as error:
            found["refused"] = np.array(str(error))
        path = folder / "two.resume.safetensors"
        for progress in (steps := (denoiser := Denoiser.for_images(STACK, settings())).train_steps(world=world)):
            if progress.step == LATER:
                denoiser.save_training(path)
            if progress.step == 16:  # HDN is frozen
                found["weights"] = weights(trainers[-1])
                break
        steps.close()  # type: ignore[attr-defined]
        world.greatest(0)  # the file is there
        for name in ("two", "one"):
            resumed = Denoiser.resumed(folder / f"{name}.resume.safetensors", STACK, settings())
            for _ in resumed.train_steps(world=world):
                pass
            found[f"after {name}"] = resumed.denoise(STACK[:1])
        np.savez(folder / f"{rank}.npz", **found)
        for progress in Denoiser.for_images(STACK, settings(max_steps=10_000)).train_steps(world=world):
            if rank == 1 and progress.step == 3:
                os._exit(3)


def main(rank: int, port: int, folder: Path) -> None:
    try:
        one_of_two(rank, port, folder)
    except TrainingError as error:
        (folder / f"{rank}.txt").write_text(str(error))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patched:
        shrink(patched)
        patched.setitem(PRESETS, "quick", QUICK)
        go_on(Denoiser.for_images(STACK, settings()), folder / "one.resume.safetensors", LATER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [fork_server.context().Process(target=main, args=(rank, port, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    began = time.monotonic()
    for process in processes:
        process.join(300)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    found = [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]
    return {"found": found, "folder": folder, "codes": codes, "seconds": time.monotonic() - began}


@pytest.mark.parametrize("micro_batch", [4, 2])
def test_gradients_are_those_of_the_whole_batch(results: dict[str, Any], micro_batch: int) -> None:
    first, second = (found[f"gradients {micro_batch}"] for found in results["found"])
    np.testing.assert_array_equal(first, second)
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink(monkeypatch)
        without_bfloat16(monkeypatch)
        whole = gradients(ALONE, 8)
    assert np.abs(whole).max() > 1e-3
    np.testing.assert_allclose(first, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("name", ["weights", "published"])
def test_all_processes_have_the_same_weights_and_averages(results: dict[str, Any], name: str) -> None:
    first, second = (found[name] for found in results["found"])
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("before", ["one", "two"])
def test_a_training_goes_on_with_another_number_of_processes(results: dict[str, Any], before: str) -> None:
    path = results["folder"] / f"{before}.resume.safetensors"
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink(monkeypatch)
        alone = go_on(Denoiser.resumed(path, STACK, settings()), path).denoise(STACK[:1])
    for found in results["found"]:
        together = found[f"after {before}"]
        assert np.isfinite(together).all()
        assert np.std(together - alone) < 0.1 * np.std(alone)  # other noise is drawn


def test_a_process_that_dies_ends_the_others_with_words(results: dict[str, Any]) -> None:
    assert results["codes"] == [0, 3]
    assert "Another process of this training has ended" in (results["folder"] / "0.txt").read_text()


def test_a_batch_that_cannot_be_divided_is_refused(results: dict[str, Any]) -> None:
    assert "found 2: start 1, 3" in str(results["found"][0]["refused"])
