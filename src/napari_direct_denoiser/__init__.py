"""Direct unsupervised denoising: learn to denoise from noisy images alone (Salmon & Krull 2023)."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Waiting threads of torch should sleep, not spin: spinning threads take the cores from the viewer, and from the threads
# they wait for. This has an effect only before torch is loaded, and the user's own setting wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from .config import DenoiseSettings, TrainSettings
    from .denoiser import Denoiser, load, train
    from .errors import DenoiserError, ImageError, ModelFileError, SettingError, TrainingError
    from .export.bioimageio_package import export_bioimageio
    from .export.onnx_file import export_onnx
    from .noise import (
        CorrelatedNoise,
        GaussianNoise,
        HistogramNoise,
        MixtureNoise,
        NoiseFit,
        NoiseModel,
        PoissonGaussianNoise,
        ScaledCorrelatedNoise,
        estimate_noise,
        fit_calibration,
        read_noise,
        write_noise,
    )

_HOMES = {
    "config": ("DenoiseSettings", "TrainSettings"),
    "denoiser": ("Denoiser", "load", "train"),
    "errors": ("DenoiserError", "ImageError", "ModelFileError", "SettingError", "TrainingError"),
    "export.bioimageio_package": ("export_bioimageio",),
    "export.onnx_file": ("export_onnx",),
    "noise": (
        "CorrelatedNoise",
        "GaussianNoise",
        "HistogramNoise",
        "MixtureNoise",
        "NoiseFit",
        "NoiseModel",
        "PoissonGaussianNoise",
        "ScaledCorrelatedNoise",
        "estimate_noise",
        "fit_calibration",
        "read_noise",
        "write_noise",
    ),
}

__all__ = [
    "CorrelatedNoise",
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
    "ScaledCorrelatedNoise",
    "SettingError",
    "TrainSettings",
    "TrainingError",
    "estimate_noise",
    "export_bioimageio",
    "export_onnx",
    "fit_calibration",
    "load",
    "read_noise",
    "train",
    "write_noise",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that the package itself loads no torch.

    `lazy_loader` does the same from a stub file, which it parses at every start, and which type checkers read instead
    of this file: not simpler than these lines.
    """
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
