"""Functions recorded as CUDA graphs give what they give when called; on a CPU they are called."""

from __future__ import annotations

import copy

import pytest
import torch
from small import QUICK
from torch import Tensor

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.cuda_graphs import CudaGraphs
from napari_direct_denoiser.data.patches import PatchSampler
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import MixtureNoise, NoiseModel, PoissonGaussianNoise, StudentNoise
from napari_direct_denoiser.noise.correlated import CorrelatedNoise
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.training.co_trainer import CoTrainer

STACK = simulate(planes=2, size=64, seed=1).noisy


class Drawing:
    """Draws random numbers, adds them to what it is given, and counts its calls in Python."""

    def __init__(self, device: torch.device) -> None:
        self.generator = torch.Generator(device)
        self.calls = 0
        self.sum = torch.zeros(3, device=device)

    def add(self, numbers: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        self.sum += numbers
        return numbers + torch.randn(3, generator=self.generator, device=numbers.device), self.sum * 2

    def wait(self, numbers: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        return (numbers * float(numbers.sum()),)


@pytest.mark.parametrize("usable", [True, False])
def test_a_function_gives_the_same_recorded_or_not(device: torch.device, usable: bool) -> None:
    drawing = Drawing(device)
    graphs = CudaGraphs(device, [drawing.generator], usable=usable)
    total = torch.zeros(3, device=device)
    for seed in range(8):
        numbers = torch.full((3,), float(seed), device=device)
        total += numbers
        drawing.generator.manual_seed(seed)
        found, doubled = graphs.call(drawing.add, numbers)
        torch.testing.assert_close(doubled, 2 * total)
        expected = numbers + torch.randn(3, generator=drawing.generator.manual_seed(seed), device=device)
        torch.testing.assert_close(found, expected)
    assert drawing.calls == (3 if graphs.usable else 8)


def test_results_are_not_overwritten_by_the_next_call(device: torch.device) -> None:
    drawing = Drawing(device)
    graphs = CudaGraphs(device, [drawing.generator])
    found = [graphs.call(drawing.add, torch.full((3,), float(number), device=device))[1] for number in range(6)]
    assert [float(each[0]) for each in found] == [0.0, 2.0, 6.0, 12.0, 20.0, 30.0]


def test_a_function_that_waits_for_the_gpu_is_called_as_before(device: torch.device) -> None:
    drawing = Drawing(device)
    graphs = CudaGraphs(device, [drawing.generator])
    for _ in range(6):
        (found,) = graphs.call(drawing.wait, torch.ones(3, device=device))
        assert found.tolist() == [3.0, 3.0, 3.0]
    assert not graphs.usable
    drawn, _ = graphs.call(drawing.add, torch.zeros(3, device=device))  # the generator is still of use
    assert drawn.isfinite().all()


def noises() -> list[NoiseModel]:
    weight = [[0.1, 0.3], [-0.2, 0.1], [2.0, 5.0], [3.0, 4.0], [0.5, 0.0], [0.0, 0.7]]
    camera = PoissonGaussianNoise(2.0, 100.0, 3.0, skew=1.3)
    return [
        camera,
        StudentNoise(8.0, 5.0),
        CorrelatedNoise(MixtureNoise(torch.tensor(weight), 40.0, 300.0, 4.0), [[0.1, 0.2, 0.05], [0.2, 0.0, 0.0]]),
        CorrelatedNoise.of(camera, [[0.5, 0.0, 0.0]], "odd"),
    ]


@pytest.mark.parametrize("loss", ["l2", "tukey"])
@pytest.mark.parametrize("noise", noises(), ids=lambda noise: noise.describe()[:30])
def test_training_is_the_same_recorded_or_not(
    device: torch.device, noise: NoiseModel, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device.type != "cuda":
        pytest.skip("there are no CUDA graphs on this device")
    monkeypatch.setitem(PRESETS, "quick", QUICK)
    with torch.device("cpu"):  # as users have it: only what is sent to the device is there
        found = trained_both_ways(noise, loss)
    for recorded, called in zip(*found, strict=True):
        torch.testing.assert_close(recorded, called, rtol=1e-3, atol=1e-4)


def trained_both_ways(noise: NoiseModel, loss: str) -> list[tuple[Tensor, Tensor]]:
    """Losses and weights of a training with recorded steps, and of the same without."""
    denoiser = Denoiser.for_images(STACK, TrainSettings(device="cuda", loss=loss), noise=copy.deepcopy(noise))
    found = []
    for recorded in (True, False):
        trainer = CoTrainer(denoiser.model, PatchSampler([STACK], 32, 0), QUICK.schedule, 0)
        trainer._graphs.usable = recorded
        losses = [trainer.step(number / 40) for number in range(20)]
        trainer.freeze_hdn(trainer.average)
        losses += [trainer.step(number / 40) for number in range(20, 30)]
        assert trainer._graphs.usable == recorded
        found.append((torch.stack(losses), torch.cat([each.flatten() for each in trainer.average.parameters()])))
        trainer.close()
    return found
