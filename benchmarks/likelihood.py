"""What noise models cost in training: whole steps with correlated noise beside white noise, and single densities.

    python benchmarks/likelihood.py

Densities are `log_prob` and its gradient. All are medians over rounds in which one follows the other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import GaussianNoise, MixtureNoise, PoissonGaussianNoise, ScaledCorrelatedNoise
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.progress import TrainingProgress

ROUNDS, STEPS = 9, 20
CAMERA = PoissonGaussianNoise(2.0, 100.0, 3.0)
PLANE = [[0.0, -0.05, 0.1, -0.05, 0.0], [-0.05, 0.1, 0.3, 0.1, -0.05], [-0.1, 0.35, 0.0, 0.0, 0.0]]
NOISES = {
    "white": CAMERA,
    "x": ScaledCorrelatedNoise.of(CAMERA, [[0.5, 0.0, 0.0]]),
    "x, odd rows backwards": ScaledCorrelatedNoise.of(CAMERA, [[0.5, 0.0, 0.0]], "odd"),
    "x and y": ScaledCorrelatedNoise.of(CAMERA, [[-0.25, 0.5, 0.0], [0.5, 0.0, 0.0]]),
    "24 neighbours": ScaledCorrelatedNoise.of(CAMERA, PLANE),
}


def seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(STEPS):
        what()
    return (time.perf_counter() - began) / STEPS


def seconds_of_steps(training: Iterator[TrainingProgress]) -> float:
    first, began = next(training), time.perf_counter()
    last = first
    while last.step < first.step + STEPS:
        last = next(training)
    return (time.perf_counter() - began) / (last.step - first.step)


def main() -> None:
    stack = simulate(8, 256)
    batch = PRESETS["quick"].schedule.batch
    noisy = torch.from_numpy(stack.noisy[:batch, None, :64, :64].astype("float32"))
    signal = torch.from_numpy(stack.truth[:batch, None, :64, :64]).requires_grad_()
    weight = torch.tensor([[0.1, 0.3], [-0.2, 0.1], [0.4, -0.5], *[[3.0, 4.0]] * 3, *[[0.1, 0.2]] * 3])
    models = (GaussianNoise(5.0), CAMERA, MixtureNoise(weight, 90.0, 200.0, 1.0))
    settings = TrainSettings(preset="quick", max_steps=100_000, device="cpu")
    trainings = {
        name: Denoiser.for_images(stack.noisy, settings, noise=noise).train_steps() for name, noise in NOISES.items()
    }
    densities: dict[str, list[float]] = {model.kind: [] for model in models}
    steps: dict[str, list[float]] = {name: [] for name in NOISES}
    for _ in range(ROUNDS):
        for name, training in trainings.items():
            steps[name].append(seconds_of_steps(training))
        torch.set_num_threads(1)  # as in training
        for model in models:
            densities[model.kind].append(seconds(lambda m=model: m.log_prob(noisy, signal).sum().backward()))
    white = median(steps["white"])
    for name, times in steps.items():
        ratio = median(time / other for time, other in zip(times, steps["white"], strict=True))
        print(f"step, noise {name}: {1000 * median(times):.1f} ms, {ratio:.2f} times that with white noise")
    for kind, times in densities.items():
        print(f"{kind}: {1000 * median(times):.2f} ms, {median(times) / white:.1%} of a step")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
