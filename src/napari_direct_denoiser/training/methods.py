"""The methods paragraph of a paper: how images were denoised, written from the provenance of a model alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Protocol

import torch

from ..co_model import CoModel
from ..config import TrainSettings
from ..presets import PRESETS
from .provenance import Provenance, Shape

_DIRECT = (
    "Salmon, B. and Krull, A.: Direct Unsupervised Denoising. IEEE/CVF International Conference on Computer Vision "
    "(ICCV) Workshops, 2023."
)
_TEACHERS = {
    "hdn": (
        "Hierarchical DivNoising (HDN; Prakash et al., 2022)",
        "Prakash, M., Delbracio, M., Milanfar, P. and Jug, F.: Interpretable Unsupervised Diversity Denoising and "
        "Artefact Removal. International Conference on Learning Representations (ICLR), 2022.",
    ),
    "divnoising": (
        "DivNoising (Prakash et al., 2021)",
        "Prakash, M., Krull, A. and Jug, F.: Fully Unsupervised Diversity Denoising with Convolutional Variational "
        "Autoencoders. International Conference on Learning Representations (ICLR), 2021.",
    ),
}
_ONE_PASS = {
    "direct": "Images were denoised in one pass of a Direct Denoiser (Salmon and Krull, 2023)",
    "std": "A Direct Denoiser (Salmon and Krull, 2023) predicted the standard deviation of its error in one pass",
}
_OF_SAMPLES = {
    "mean": "Images were denoised by the mean of",
    "median": "Images were denoised by the pixel-wise median of",
    "mode": "Images were denoised by the pixel-wise mode of",
    "sample": "Denoised images were drawn:",
    "sample_std": "The pixel-wise standard deviation was computed of",
}
_LEARNED = {
    "l2": "the mean of the samples",
    "l1": "the pixel-wise median of the samples",
    "tukey": "the densest part of the samples",
    "perceptual": "the samples under a perceptual loss",
}


class Trained(Protocol):
    """A model and its provenance, such as a `Denoiser`."""

    model: CoModel
    provenance: Provenance


def methods_paragraph(trained: Trained, output: str = "direct", samples: int | None = None, seed: int = 0) -> str:
    """Write how images were denoised with a model, for the methods section of a paper, with the papers to cite.

    Parameters
    ----------
    trained
        The model. What its file does not tell, the paragraph leaves out.
    output
        What was computed: one of `prediction.tiling.Output`.
    samples, seed
        Number N of posterior samples, and their seed; not used for the direct pass.
    """
    settings = trained.provenance.settings
    teacher, teacher_reference = _TEACHERS[settings.teacher]
    if output in _ONE_PASS:
        done = _ONE_PASS[output]
    else:
        done = f"{_OF_SAMPLES[output]} N = {samples} posterior samples of {teacher} with seed {seed}"
    found = version("napari-direct-denoiser"), torch.__version__
    sentences = [
        f"{done}, with napari-direct-denoiser {found[0]} and PyTorch {found[1]}.",
        *_training(trained, teacher, found),
        f"Noise model: {trained.model.noise.describe()}; {_noise_source(settings.noise, settings.refine_noise)}.",
    ]
    return "\n".join([" ".join(sentences), "", "References:", _DIRECT, teacher_reference])


def _training(trained: Trained, teacher: str, software: tuple[str, str]) -> list[str]:
    known = trained.provenance
    settings = known.settings
    images = f": {_sessions(known.sessions)}" if known.sessions else ""
    steps = "1 step" if known.steps == 1 else f"{known.steps:,} steps"
    structured = ", for structured noise (HDN 3-6)" if settings.structured else ""
    sentences = [
        f"The Direct Denoiser and its teacher, {teacher}{structured}, were trained on noisy images alone, without "
        f"clean ones{images}.",
        f"Training took {steps} ({known.seconds / 60:.1f} minutes) with the preset {settings.preset} and seed "
        f"{settings.seed}, from {_start(settings)}; the Direct Denoiser learned {_learned(settings.loss)} "
        f"(loss {settings.loss}).",
    ]
    if settings.student_only:
        sized = settings.student_size != "standard"
        new = f", and a Direct Denoiser of the size {settings.student_size} began from random weights" if sized else ""
        sentences.append(f"In the last part of the training, the teacher was kept as it was{new}.")
    if (known.version, known.torch_version) != software:
        sentences.append(
            f"It was trained with napari-direct-denoiser {known.version} and PyTorch {known.torch_version}."
        )
    return sentences


def _start(settings: TrainSettings) -> str:
    if not PRESETS["quick" if settings.preset == "auto" else settings.preset].pretrained:
        return "random weights"
    if settings.teacher == "divnoising":
        return "random weights of the teacher, and weights of the Direct Denoiser that were trained on simulated images"
    return "weights that were trained on simulated images"


def _sessions(sessions: Sequence[Sequence[Shape]]) -> str:
    """Such as: 60 planes of 256 × 256 pixels, and then 3 planes of 512 × 512 pixels."""
    return ", and then ".join(_planes(shapes) for shapes in sessions)


def _planes(shapes: Sequence[Shape]) -> str:
    counts: Counter[tuple[int, int]] = Counter()
    for planes, height, width in shapes:
        counts[height, width] += planes
    return " and ".join(
        f"{planes:,} plane{'s' * (planes != 1)} of {width} × {height} pixels"
        for (height, width), planes in counts.items()
    )


def _learned(loss: str) -> str:
    kind, _, level = loss.partition(":")
    return f"the {level} quantile of the samples" if kind == "quantile" else _LEARNED[kind]


def _noise_source(noise: str, refined: bool) -> str:
    source = "it was estimated from the noisy images" if noise == "auto" else "it was given"
    return source + (" and refitted once during the training" if refined else "")
