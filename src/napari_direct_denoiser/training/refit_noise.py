"""Bootstrapped noise model: fitted to predictions of the Direct Denoiser for the noisy images.

After PPN2V (Prakash et al. 2020), which takes predictions for signals. A prediction that sees its own noisy pixel is
drawn towards it, which makes the fitted noise too small. So the predicted pixels are hidden from the network, in
whitened images: neighbours of a pixel would give away noise that they share with it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..co_model import CoModel
from ..data.patches import PatchSampler
from ..noise import CorrelatedNoise, NoiseModel, fit_mixture
from ..noise.correlated import BACKWARD
from ..noise.wrapped import pixel_noise

_PAIRS = 100_000
_BATCH = 64  # patches
_APART = 4  # pixels between hidden pixels
_MARGIN = 8  # pixels at the edge of a patch, where predictions are worse


def refit_noise(model: CoModel, patches: PatchSampler, seed: int = 0) -> NoiseModel:
    """Fit a Gaussian mixture to pairs (prediction, noisy) of a partly trained model.

    Of correlated noise it is the innovation that is fitted; the coefficients stay, and offsets of lines do.
    """
    return model.noise.with_innovation(fit_mixture(*blind_pairs(model, patches, seed)))


@torch.no_grad()
def blind_pairs(model: CoModel, patches: PatchSampler, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predict hidden pixels of whitened images: predictions and noisy values, (pairs,) each, counts, on the CPU.

    In every patch, each fourth pixel along both axes is replaced by the mean of its eight neighbours. Rows that were
    scanned backwards are left out: whitened forwards, their noise is not that of the innovation.
    """
    correlated = pixel_noise(model.noise)
    backward = correlated.backward if isinstance(correlated, CorrelatedNoise) else None
    random = np.random.default_rng(seed)
    around = torch.ones(1, 1, 3, 3, device=model.device) / 8
    around[0, 0, 1, 1] = 0
    signals: list[Tensor] = []
    observed: list[Tensor] = []
    while sum(map(len, signals)) < _PAIRS:
        noisy = model.whiten(patches.draw(_BATCH).to(model.device), patches.margin)
        hidden = torch.zeros_like(noisy, dtype=torch.bool)
        y, x = (_MARGIN + int(random.integers(_APART)) for _ in range(2))
        if backward and y % 2 == BACKWARD.index(backward):
            y += 1
        hidden[..., y:-_MARGIN:_APART, x:-_MARGIN:_APART] = True
        seen = torch.where(hidden, F.conv2d(F.pad(noisy, (1, 1, 1, 1), mode="reflect"), around), noisy)
        signals.append(model.denoise(model.prepare_white(seen))[hidden].cpu())
        observed.append(noisy[hidden].cpu())
    return torch.cat(signals), torch.cat(observed)
