"""`Denoiser`: train, load, denoise, sample, save. Scripts, docks and command line all use this."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .checkpoint import load_checkpoint, newer_version, save_checkpoint, start_from_pretrained
from .co_model import CoModel
from .config import PRESETS, Device, ModelConfig, Preset, PresetName, TrainSettings, train_settings
from .data.stacks import open_stacks
from .errors import ModelFileError, TrainingError
from .noise import Finding, NoiseFit, NoiseModel, diagnose, fit_noise, from_document
from .normalization import Normalization
from .prediction.predictor import Predictor
from .progress import TrainingProgress
from .std_calibration import StdCalibration
from .training.calibrate_std import calibrate_std
from .training.loop import train_steps
from .training.provenance import History, Provenance, Record

_FIRST_CALIBRATION = 200  # steps after which predicted standard deviations are calibrated; at the end they are again
_CALIBRATION_RATIO = 4  # and each time after so many times more steps: it takes seconds


class Denoiser(Predictor):
    """HDN and Direct Denoiser for one kind of image, with their provenance.

    Make one with `train`, `load`, or `Denoiser.for_images` followed by `train_steps`.
    """

    noise_fit: NoiseFit | None = None
    """How the noise model was found; None for a model from a file."""
    findings: tuple[Finding, ...] = ()
    """What is unusual about the training images, and what to do about it."""

    def __init__(self, model: CoModel, provenance: Provenance, stacks: Sequence[NDArray[np.generic]] = ()) -> None:
        self.model = model
        self.provenance = provenance
        self._stacks = stacks
        self._frame_steps: Sequence[int] = ()

    @classmethod
    def for_images(
        cls,
        images: ArrayLike | Sequence[ArrayLike],
        settings: TrainSettings,
        axes: str | None = None,
        noise: NoiseModel | None = None,
        *,
        channel: int | None = None,
    ) -> Denoiser:
        """Check everything, fit the noise model and build untrained networks.

        Parameters
        ----------
        images
            Noisy counts: one array, or a list of arrays, with at least two axes. Of dask and zarr arrays, and memory
            maps, that are large, planes are read when they are needed; see `open_stacks`.
        settings
            What to train.
        axes
            Letters of the axes, such as ``"TYX"``; guessed from the number of axes if not given.
        noise
            A noise model, such as one from `fit_calibration`, instead of ``settings.noise``.
        channel
            Take this channel of the images, from 0: a model denoises one kind of image.

        Raises
        ------
        ImageError
            An image cannot be trained on.
        SettingError, ModelFileError
            The noise model or device does not exist.
        """
        if settings.preset == "auto":
            settings = settings.model_copy(update={"preset": "quick"})
        preset = _preset(settings)
        frames, axes = open_stacks(images, axes, min_side=preset.schedule.patch, channel=channel)
        stacks = [each.planes for each in frames]
        config = preset.model.model_copy(
            update={
                "loss": settings.loss,
                "hdn": preset.model.hdn.model_copy(update={"structured": settings.structured}),
            }
        )
        fit = fit_noise(settings.noise if noise is None else noise, frames)
        noise = fit.model
        model = CoModel.initialized(config, noise, Normalization.of(stacks, config.units, noise), settings.seed)
        if preset.pretrained:
            start_from_pretrained(model)
        model.to_device(settings.device).eval()
        provenance = Provenance(
            settings=settings,
            axes=axes,
            version=version("napari-direct-denoiser"),
            torch_version=torch.__version__,
        )
        denoiser = cls(model, provenance, stacks)
        denoiser.noise_fit, denoiser.findings = fit, diagnose(frames, fit)
        denoiser._frame_steps = [stack.step for stack in frames]
        return denoiser

    def continued(
        self,
        images: ArrayLike | Sequence[ArrayLike],
        axes: str | None = None,
        *,
        max_minutes: float | None = None,
        max_steps: int | None = None,
        device: Device = "auto",
        channel: int | None = None,
    ) -> Denoiser:
        """Copy this model for further training, which `train_steps` of the copy then does.

        Weights, noise model and normalization are kept, the optimizers start anew; steps, seconds and history go on.

        Parameters
        ----------
        images, axes, channel
            What to train on, as in `for_images`: the same images or others.
        max_minutes, max_steps
            Limits of the further training; those of the preset if neither is given.
        device
            Where to compute.

        Raises
        ------
        ImageError
            An image cannot be trained on.
        SettingError
            A limit is not positive, the noise model does not cover the brightness of the images, or the device is not
            there.
        """
        limits = {"max_minutes": max_minutes, "max_steps": max_steps, "device": device, "refine_noise": False}
        settings = train_settings(**{**self.provenance.settings.model_dump(), **limits})
        frames, _ = open_stacks(images, axes, min_side=_preset(settings).schedule.patch, channel=channel)
        model = copy.deepcopy(self.model).to_device(device)
        fit = fit_noise(model.noise, frames)
        model.noise = fit.model  # the same, unless these images have line noise and those before had none
        provenance = self.provenance.model_copy(update={"settings": settings})
        denoiser = Denoiser(model, provenance, [each.planes for each in frames])
        denoiser.noise_fit, denoiser.findings = fit, diagnose(frames, fit)
        denoiser._frame_steps = [stack.step for stack in frames]
        return denoiser

    def train_steps(self, cancelled: Callable[[], bool] = lambda: False) -> Iterator[TrainingProgress]:
        """Train on the images of `for_images` or `continued`, yielding progress; the model is usable at every yield.

        The images are let go at the end. Once ``cancelled`` says so, from any thread, training ends within a step.
        Raises `TrainingError` where training cannot go on and nothing good was learned.
        """
        if not self._stacks:
            raise TrainingError("Expected images to train on, found none: make the model with for_images or continued")
        stacks, self._stacks = self._stacks, ()
        before = self.provenance
        settings = before.settings
        preset = _preset(settings)
        history, calibrated = History(before.history), _FIRST_CALIBRATION // _CALIBRATION_RATIO
        for progress in train_steps(
            self.model,
            stacks,
            preset.schedule,
            max_minutes=settings.max_minutes,
            max_steps=settings.max_steps,
            seed=settings.seed + before.steps,
            refine_noise=settings.refine_noise,
            trained=before.steps > 0 or preset.pretrained,
            frame_steps=self._frame_steps if self.noise_fit and self.noise_fit.static else (),
            cancelled=cancelled,
        ):
            if progress.stopped or progress.step >= _CALIBRATION_RATIO * calibrated:
                calibrated = progress.step
                straight = [self.model.noise.without_lines(stack) for stack in stacks]
                self.model.std_calibration = calibrate_std(self.model, straight, settings.seed)
            progress = replace(
                progress,
                step=before.steps + progress.step,
                total_steps=progress.total_steps and before.steps + progress.total_steps,
                elapsed_seconds=before.seconds + progress.elapsed_seconds,
            )
            history.add(
                Record(
                    step=progress.step,
                    seconds=progress.elapsed_seconds,
                    neg_elbo=progress.neg_elbo,
                    direct_loss=progress.direct_loss,
                    validation_neg_elbo=progress.validation_neg_elbo,
                    validation_direct_loss=progress.validation_direct_loss,
                    estimated_gain_db=progress.estimated_gain_db,
                    estimated_gain_error_db=progress.estimated_gain_error_db,
                    estimated_gain_why=progress.estimated_gain_why,
                    estimated_rise_db=progress.estimated_rise_db,
                )
            )
            self.provenance = self.provenance.model_copy(
                update={
                    "steps": progress.step,
                    "seconds": progress.elapsed_seconds,
                    "stopped": progress.stopped,
                    "history": history.records,
                }
            )
            yield progress

    @property
    def trained_axes(self) -> str:
        """Axes of the training images, such as TYX."""
        return self.provenance.axes

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file, atomically; `DenoiserError` if that is not possible."""
        document = {
            "config": self.model.config.model_dump(mode="json"),
            "scaling": self.model.normalization.model_dump(mode="json"),
            "noise": self.model.noise.document(),
            "calibration": self.model.std_calibration.model_dump(mode="json"),
            "provenance": self.provenance.model_dump(mode="json"),
        }
        save_checkpoint(path, self.model.state_dict(), document)

    def summary(self) -> dict[str, Any]:
        """What `direct-denoiser info` shows."""
        settings = self.provenance.settings
        return {
            "preset": settings.preset,
            "loss": settings.loss,
            "structured": settings.structured,
            "parameters": {
                "hdn": sum(p.numel() for p in self.model.hdn.parameters()),
                "direct": sum(p.numel() for p in self.model.unet.parameters()),
            },
            "noise": self.model.noise.describe(),
            "steps": self.provenance.steps,
            "version": self.provenance.version,
        }


def _preset(settings: TrainSettings) -> Preset:
    return PRESETS[cast(PresetName, settings.preset)]


def train(
    images: ArrayLike | Sequence[ArrayLike],
    axes: str | None = None,
    noise: str | NoiseModel = "auto",
    *,
    channel: int | None = None,
    **settings: Any,
) -> Denoiser:
    """Train on noisy images alone: ``train(stack, preset="quick", max_minutes=5)``.

    Parameters
    ----------
    images
        Noisy counts: one array, or a list of arrays, with at least two axes.
    axes
        Letters of the axes, such as ``"TYX"``; guessed from the number of axes if not given.
    noise
        A noise model, or a text as for `TrainSettings.noise`.
    channel
        Take this channel of the images, from 0.
    **settings
        The other fields of `TrainSettings`.

    Raises
    ------
    DenoiserError
        `ImageError`, `SettingError`, `ModelFileError` before any work, `TrainingError` during it.
    """
    text, model = (noise, None) if isinstance(noise, str) else (noise.describe(), noise)
    denoiser = Denoiser.for_images(images, train_settings(noise=text, **settings), axes, model, channel=channel)
    for _ in denoiser.train_steps():
        pass
    return denoiser


def load(path: str | Path, device: Device = "auto") -> Denoiser:
    """Read a model file; executes no code from it.

    Raises
    ------
    ModelFileError
        If it is no model file, is damaged, or was written by a newer version whose models differ.
    SettingError
        If the device is not there.
    """
    tensors, document = load_checkpoint(path)
    try:
        config = ModelConfig.model_validate(document["config"])
        normalization = Normalization.model_validate(document["scaling"])
        provenance = Provenance.model_validate(document["provenance"])
        model = CoModel(config, from_document(document["noise"]), normalization)
        model.std_calibration = StdCalibration.model_validate(document.get("calibration", {}))
        model.load_state_dict(tensors)
    except Exception as error:  # a document may be wrong in any way
        if newer := newer_version(document):
            raise ModelFileError(
                f"{path} was written by version {newer}, this is version {version('napari-direct-denoiser')}, which "
                "does not know all of it: upgrade napari-direct-denoiser"
            ) from error
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path} does not hold a model of this package ({reason}): train again") from error
    return Denoiser(model.to_device(device).eval(), provenance)
