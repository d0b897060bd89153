"""How the losses of the `paper` preset fall in its first steps, and what each level of HDN says of the image.

    python benchmarks/paper_curve.py curve.csv --steps 300

Trains on W2S from chance. One row for every record of the training; every tenth has the KL of all levels, finest
first, in nats a pixel, of 16 patches that stay the same, with the networks as they are in training (batch statistics,
dropout).
"""

from __future__ import annotations

import argparse
import copy
import csv
from pathlib import Path

import torch
from quality_data import SHARED, load_dataset

from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.data.patches import PatchSampler
from napari_direct_denoiser.denoiser import Denoiser

PATCHES, EVERY = 16, 10


@torch.no_grad()
def levels(model: CoModel, patches: torch.Tensor) -> list[float]:
    """KL of each level, nats a pixel, before free bits."""
    learning = copy.deepcopy(model).train()
    kl: list[float] = learning.hdn_loss(learning.prepare(patches)).kl.tolist()
    return kl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    args = parser.parse_args()
    data = load_dataset("w2s", args.data)
    denoiser = Denoiser.for_images(data.noisy, train_settings(preset="paper", max_steps=args.steps), axes=data.axes)
    model = denoiser.model
    patches = PatchSampler([data.noisy], 64, seed=0).draw(PATCHES).to(model.device)
    names = [f"kl_{level}" for level in range(len(model.config.hdn.filters))]
    with args.csv.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "elbo", "reconstruction", "kl", "direct_loss", *names])
        for record in denoiser.train_steps():
            losses = record.neg_elbo, record.reconstruction, record.kl, record.direct_loss
            known = levels(model, patches) if record.step == 1 or record.step % EVERY == 0 else []
            writer.writerow([record.step, *(f"{value:.5g}" for value in (*losses, *known))])
            file.flush()


if __name__ == "__main__":
    main()
