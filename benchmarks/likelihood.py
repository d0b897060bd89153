"""What the likelihood costs: seconds of log_prob and its gradient beside those of a co-training step, medians.

python benchmarks/likelihood.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import GaussianNoise, MixtureNoise, PoissonGaussianNoise
from napari_direct_denoiser.presets import PRESETS

ROUNDS, STEPS = 5, 20


def seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(STEPS):
        what()
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    stack = simulate(8, 256)
    batch = PRESETS["quick"].schedule.batch
    noisy = torch.from_numpy(stack.noisy[:batch, None, :64, :64].astype("float32"))
    signal = torch.from_numpy(stack.truth[:batch, None, :64, :64]).requires_grad_()
    weight = torch.tensor([[0.1, 0.3], [-0.2, 0.1], [0.4, -0.5], *[[3.0, 4.0]] * 3, *[[0.1, 0.2]] * 3])
    models = (GaussianNoise(5.0), PoissonGaussianNoise(2.0, 100.0, 3.0), MixtureNoise(weight, 90.0, 200.0, 1.0))
    settings = TrainSettings(preset="quick", noise="poisson:2,100,3", max_steps=100_000, device="cpu")
    training = Denoiser.for_images(stack.noisy, settings).train_steps()
    first = next(training)
    measured: dict[str, list[float]] = {model.kind: [] for model in models}
    steps = []
    for _ in range(ROUNDS):
        before, began = first.step, time.perf_counter()
        while first.step < before + STEPS:
            first = next(training)
        steps.append((time.perf_counter() - began) / (first.step - before))
        torch.set_num_threads(1)  # as in training
        for model in models:
            measured[model.kind].append(seconds(lambda m=model: m.log_prob(noisy, signal).sum().backward()))
    print(f"co-training step of the quick preset: {1000 * median(steps):.1f} ms")
    for kind, times in measured.items():
        print(f"{kind}: {1000 * median(times):.2f} ms, {median(times) / median(steps):.1%} of it")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
