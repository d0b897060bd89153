"""Direct unsupervised denoising: learn to denoise from noisy images alone (Salmon & Krull 2023)."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Threads of torch that wait for each other shall sleep, not spin: spinning ones take the cores from the viewer and
# from the very threads they wait for. It counts only where torch is not loaded yet, and where the user set nothing.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from .config import DenoiseSettings, TrainSettings
    from .denoiser import Denoiser, load, train
    from .errors import DenoiserError, ImageError, ModelFileError, SettingError, TrainingError
    from .noise import (
        GaussianNoise,
        HistogramNoise,
        MixtureNoise,
        NoiseFit,
        NoiseModel,
        PoissonGaussianNoise,
        estimate_noise,
        fit_calibration,
        read_noise,
    )

_HOMES = {
    "config": ("DenoiseSettings", "TrainSettings"),
    "denoiser": ("Denoiser", "load", "train"),
    "errors": ("DenoiserError", "ImageError", "ModelFileError", "SettingError", "TrainingError"),
    "noise": (
        "GaussianNoise",
        "HistogramNoise",
        "MixtureNoise",
        "NoiseFit",
        "NoiseModel",
        "PoissonGaussianNoise",
        "estimate_noise",
        "fit_calibration",
        "read_noise",
    ),
}

__all__ = [
    "DenoiseSettings",
    "Denoiser",
    "DenoiserError",
    "GaussianNoise",
    "HistogramNoise",
    "ImageError",
    "MixtureNoise",
    "ModelFileError",
    "NoiseFit",
    "NoiseModel",
    "PoissonGaussianNoise",
    "SettingError",
    "TrainSettings",
    "TrainingError",
    "estimate_noise",
    "fit_calibration",
    "load",
    "read_noise",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that the package itself loads no torch."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
