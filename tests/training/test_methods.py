"""The methods paragraph says what is true of a model and of a result, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pytest
import torch

from napari_direct_denoiser.config import TrainSettings
from napari_direct_denoiser.denoiser import Denoiser, load
from napari_direct_denoiser.noise import GaussianNoise
from napari_direct_denoiser.training.methods import methods_paragraph
from napari_direct_denoiser.training.provenance import Provenance


@dataclass
class Model:
    noise: GaussianNoise


@dataclass
class Trained:
    model: Model
    provenance: Provenance


def trained(settings, **known):
    here = {"version": version("napari-direct-denoiser"), "torch_version": torch.__version__}
    return Trained(Model(GaussianNoise(3.0)), Provenance(settings=settings, axes="TYX", **{**here, **known}))


def test_the_direct_pass_with_all_that_is_known():
    model = trained(
        TrainSettings(preset="quick", seed=7), steps=8500, seconds=300, sessions=[[(60, 256, 512), (1, 256, 512)]]
    )
    assert methods_paragraph(model) == (
        "Images were denoised in one pass of a Direct Denoiser (Salmon and Krull, 2023), with napari-direct-denoiser "
        f"{version('napari-direct-denoiser')} and PyTorch {torch.__version__}. The Direct Denoiser and its teacher, "
        "Hierarchical DivNoising (HDN; Prakash et al., 2022), were trained on noisy images alone, without clean ones: "
        "61 planes of 512 × 256 pixels. Training took 8,500 steps (5.0 minutes) with the preset quick and seed 7, from "
        "weights that were trained on simulated images; the Direct Denoiser learned the mean of the samples (loss l2). "
        "Noise model: Gaussian, sigma 3 counts; it was estimated from the noisy images.\n"
        "\n"
        "References:\n"
        "Salmon, B. and Krull, A.: Direct Unsupervised Denoising. IEEE/CVF International Conference on Computer Vision "
        "(ICCV) Workshops, 2023.\n"
        "Prakash, M., Delbracio, M., Milanfar, P. and Jug, F.: Interpretable Unsupervised Diversity Denoising and "
        "Artefact Removal. International Conference on Learning Representations (ICLR), 2022."
    )


@pytest.mark.parametrize(
    ("settings", "expected", "missing"),
    [
        ({"preset": "paper"}, "from random weights", "simulated"),
        ({"loss": "quantile:0.05"}, "the 0.05 quantile of the samples (loss quantile:0.05)", "mean of the samples"),
        ({"teacher": "divnoising"}, "Fully Unsupervised Diversity Denoising", "Hierarchical"),
        ({"teacher": "divnoising"}, "from random weights of the teacher, and weights of the Direct", "Hierarchical"),
        ({"student_only": True, "student_size": "small"}, "of the size small began from random weights", "given"),
        ({"structured": True}, "structured noise (HDN 3-6)", "N ="),
        ({"noise": "gaussian:3"}, "counts; it was given.", "estimated"),
        ({"refine_noise": True}, "refitted once during the training", "given"),
    ],
)
def test_settings_change_what_is_said(settings, expected, missing):
    words = methods_paragraph(trained(TrainSettings(**settings)))
    assert expected in words
    assert missing not in words
    assert "planes of" not in words  # the images of a model of an older version are not known


def test_samples_and_other_versions_are_named():
    words = methods_paragraph(trained(TrainSettings(), version="0.0.9"), "median", 50, 3)
    assert "by the pixel-wise median of N = 50 posterior samples of Hierarchical DivNoising" in words
    assert "with seed 3" in words
    assert "It was trained with napari-direct-denoiser 0.0.9" in words


def test_images_of_each_training_are_kept_in_the_model_file(tmp_path, rng):
    images = [rng.poisson(20, (count, 64, 72)).astype(np.float32) for count in (2, 1)]
    denoiser = Denoiser.for_images(images, TrainSettings(noise="gaussian:4", device="cpu"))
    denoiser.save(tmp_path / "m.safetensors")
    denoiser = load(tmp_path / "m.safetensors", "cpu").continued(images[1], device="cpu")
    assert "3 planes of 72 × 64 pixels, and then 1 plane of 72 × 64 pixels." in methods_paragraph(denoiser)
    denoiser.provenance = denoiser.provenance.model_copy(update={"sessions": (), "steps": 5})  # of an older version
    assert "planes of" not in methods_paragraph(denoiser.continued(images[1], device="cpu"))
