"""What a Direct Denoiser reaches that learns from the truth of the very images it is evaluated on: a bound, no method.

    python benchmarks/supervised.py widefield twophoton --steps 1400

From the shipped weights, with loss l2, on patches of (truth, noisy). The noisy image is the recorded one, or the truth
with noise drawn from the estimated model: the difference is what the noise model costs.
"""

from __future__ import annotations

import argparse
import copy
import math

import numpy as np
import torch
from correlated import CASES, Case
from numpy.typing import NDArray
from quality_data import SHARED
from torch import Tensor

from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.denoiser import Denoiser

_BATCH, _PATCH, _RATE, _DECAY = 4, 64, 5e-4, 0.998  # those of the preset quick
Planes = NDArray[np.float32]


def patches(images: tuple[Planes, Planes], side: int, random: np.random.Generator) -> list[Tensor]:
    """Patches at the same random places of each image (P, H, W), from even rows, (B, 1, side, side)."""
    planes, height, width = images[0].shape
    drawn: list[list[Planes]] = [[], []]
    for _ in range(_BATCH):
        plane, y, x = (int(random.integers(most)) for most in (planes, height - side + 1, width - side + 1))
        for found, image in zip(drawn, images, strict=True):
            found.append(image[plane, y // 2 * 2 : y // 2 * 2 + side, x : x + side])
    return [torch.from_numpy(np.stack(found))[:, None] for found in drawn]


def learn(model: CoModel, noisy: Planes, truth: Planes, steps: int, *, drawn: bool) -> None:
    """Train the Direct Denoiser of a model on pairs; the moving average of its weights is kept."""
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    margin, average = model.noise.margin, copy.deepcopy(model.unet)
    groups = [{"params": each} for each in model.unet.parameter_groups()]
    optimizer = torch.optim.Adam(groups, lr=_RATE, betas=(0.9, 0.99), fused=True)
    for step in range(steps):
        recorded, clean = patches((noisy, truth), _PATCH + 2 * margin, random)
        with torch.no_grad():
            white = model.whiten(clean, margin)
            seen = model.noise.white_sample(white, generator) if drawn else model.whiten(recorded, margin)
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        model.direct_loss(model.prepare_white(seen), white).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for kept, current in zip(average.parameters(), model.unet.parameters(), strict=True):
                kept.lerp_(current, 1 - min(_DECAY, (step + 1) / (step + 11)))
    model.unet = average


def measure(name: str, case: Case, steps: int) -> None:
    """Print PSNR before learning, and after learning from drawn and from recorded noise."""
    for drawn in (True, False):
        denoiser = Denoiser.for_images(case.noisy, train_settings(noise=case.noise, seed=0), axes="TYX")
        model = denoiser.model
        noisy, truth = (
            np.stack(list(model.noise.measured(np.ascontiguousarray(image, np.float32))))
            for image in (case.noisy, case.truth)
        )
        before = case.psnr(denoiser.denoise(case.planes))
        learn(model, noisy, truth, steps, drawn=drawn)
        kind = "drawn" if drawn else "recorded"
        print(
            f"{name}: {before:.2f} dB, {case.psnr(denoiser.denoise(case.planes)):.2f} dB with {kind} noise", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", choices=["widefield", "mice", "fish", "twophoton"])
    parser.add_argument("--steps", type=int, default=1400)
    args = parser.parse_args()
    for name in args.images:
        measure(name, CASES[name](SHARED), args.steps)


if __name__ == "__main__":
    main()
