"""A model and where it comes from: train, denoise, save, load. Scripts, docks and command line all use this."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from .checkpoint import load_checkpoint, save_checkpoint
from .co_model import CoModel
from .config import MIN_SIDE, PRESETS, Device, ModelConfig, Preset, PresetName, TrainSettings, train_settings
from .data.images import Planes, as_planes, check_planes, named_axes
from .errors import ImageError, ModelFileError, SettingError, TrainingError
from .noise import Finding, NoiseFit, NoiseModel, diagnose, fit_noise, from_document
from .normalization import Normalization
from .prediction.lazy import denoised
from .prediction.predict import Prediction, predict_steps
from .prediction.tiling import Output
from .pretrained import start_from_pretrained
from .progress import TrainingProgress, drain
from .training.loop import train_steps
from .training.provenance import History, Provenance, Record


class Denoiser:
    """HDN and Direct Denoiser for one kind of image, with their provenance.

    Make one with `train`, `load`, or `Denoiser.for_images` followed by `train_steps`.
    """

    noise_fit: NoiseFit | None = None
    """What the noise model was made from; None for a model from a file."""
    findings: tuple[Finding, ...] = ()
    """What is unusual about the training images, for a person to act on."""

    def __init__(self, model: CoModel, provenance: Provenance, stacks: Sequence[NDArray[np.generic]] = ()) -> None:
        self.model = model
        self.provenance = provenance
        self._stacks = stacks

    @classmethod
    def for_images(
        cls,
        images: ArrayLike | Sequence[ArrayLike],
        settings: TrainSettings,
        axes: str | None = None,
        noise: NoiseModel | None = None,
    ) -> Denoiser:
        """Check everything, fit the noise model and build untrained networks.

        Parameters
        ----------
        images
            One array, or a list of arrays, of noisy counts: 2-D, or with any leading axes.
        settings
            What to train.
        axes
            Letters of the axes, such as ``"TYX"``; guessed from the number of axes if not given.
        noise
            A noise model, such as that of a `fit_calibration`, to take instead of ``settings.noise``.

        Raises
        ------
        ImageError
            An image cannot be trained on.
        SettingError, ModelFileError
            The noise model or device is not there.
        """
        if settings.preset == "auto":
            settings = settings.model_copy(update={"preset": "quick"})
        preset = _preset(settings)
        planes = _training_planes(images, axes, preset.schedule.patch)
        stacks = [p.data for p in planes]
        config = preset.model.model_copy(
            update={
                "loss": settings.loss,
                "hdn": preset.model.hdn.model_copy(update={"structured": settings.structured}),
            }
        )
        frames = [p.frames for p in planes]
        fit = fit_noise(settings.noise if noise is None else noise, frames)
        noise = fit.model
        model = CoModel.initialized(config, noise, Normalization.of(stacks, config.units, noise), settings.seed)
        if preset.pretrained:
            start_from_pretrained(model)
        model.to_device(settings.device).eval()
        provenance = Provenance(
            settings=settings,
            axes=planes[0].axes,
            version=version("napari-direct-denoiser"),
            torch_version=torch.__version__,
        )
        denoiser = cls(model, provenance, stacks)
        denoiser.noise_fit, denoiser.findings = fit, diagnose(frames, fit)
        return denoiser

    def continued(
        self,
        images: ArrayLike | Sequence[ArrayLike],
        axes: str | None = None,
        *,
        max_minutes: float | None = None,
        max_steps: int | None = None,
        device: Device = "auto",
    ) -> Denoiser:
        """Prepare to train a copy of this model further, which its `train_steps` then does.

        Weights, noise model and scaling are kept, the optimizers begin anew; steps, seconds and history go on.

        Parameters
        ----------
        images, axes
            What to train on, as in `for_images`: the same images or others.
        max_minutes, max_steps
            Limits of the training to come; those of the preset if neither is given.
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
        planes = _training_planes(images, axes, _preset(settings).schedule.patch)
        frames = [p.frames for p in planes]
        model = copy.deepcopy(self.model).to_device(device)
        fit = fit_noise(model.noise, frames)
        provenance = self.provenance.model_copy(update={"settings": settings})
        denoiser = Denoiser(model, provenance, [p.data for p in planes])
        denoiser.noise_fit, denoiser.findings = fit, diagnose(frames, fit)
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
        history = History(before.history)
        for progress in train_steps(
            self.model,
            stacks,
            preset.schedule,
            max_minutes=settings.max_minutes,
            max_steps=settings.max_steps,
            seed=settings.seed + before.steps,
            refine_noise=settings.refine_noise,
            trained=before.steps > 0 or preset.pretrained,
            cancelled=cancelled,
        ):
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

    def denoise_steps(
        self,
        image: ArrayLike,
        outputs: Sequence[Output],
        *,
        samples: int = 50,
        seed: int = 0,
        axes: str | None = None,
        first: int = 0,
    ) -> Prediction:
        """Denoise, yielding progress; returns float32 arrays in the image's shape and units by output.

        ``"sample"`` has the samples as an additional first axis. ``first`` is the number of the first plane, where the
        image is part of a larger stack. Raises `ImageError` before any work.
        """
        planes = self.planes(image, axes)
        check_planes(planes, min_side=MIN_SIDE, name="image", require_contrast=False)
        results = yield from predict_steps(self.model, planes.data, outputs, samples=samples, seed=seed, first=first)
        return {output: planes.restore(result) for output, result in results.items()}

    def denoise(self, image: ArrayLike) -> NDArray[np.float32]:
        """Denoise in one pass of the Direct Denoiser: float32 in the image's shape and units.

        A dask array gives a dask array, of which each plane is computed when it is needed.
        """
        return self._output(image, "direct")

    def sample(self, image: ArrayLike, n: int, seed: int = 0) -> NDArray[np.float32]:
        """Draw ``n`` clean images from the denoising distribution of HDN: (n, *image.shape); dask as in `denoise`."""
        return self._output(image, "sample", n, seed)

    def consensus(
        self, image: ArrayLike, n: int, how: Literal["mean", "median"] = "mean", seed: int = 0
    ) -> NDArray[np.float32]:
        """Mean (MMSE) or pixel-wise median (MMAE) of ``n`` samples of HDN, as `denoise` gives the direct pass."""
        if how not in ("mean", "median"):
            raise SettingError(f"Expected mean or median, found {how!r}")
        return self._output(image, how, n, seed)

    def _output(self, image: ArrayLike, output: Output, samples: int = 1, seed: int = 0) -> NDArray[np.float32]:
        if not hasattr(image, "__dask_graph__"):
            steps: Prediction = self.denoise_steps(image, [output], samples=samples, seed=seed)
            return drain(steps)[output]
        axes = self.axes_of(tuple(np.shape(image)))
        lazy: NDArray[np.float32] = denoised(self.model, image, output, axes=axes, samples=samples, seed=seed)
        return lazy

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, atomically; `DenoiserError` if that is not possible."""
        document = {
            "config": self.model.config.model_dump(mode="json"),
            "scaling": self.model.normalization.model_dump(mode="json"),
            "noise": self.model.noise.document(),
            "provenance": self.provenance.model_dump(mode="json"),
        }
        save_checkpoint(path, self.model.state_dict(), document)

    def summary(self) -> dict[str, Any]:
        """What `direct-denoiser info` tells."""
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

    def planes(self, image: ArrayLike, axes: str | None = None) -> Planes:
        """See an image as the planes that are denoised: by these axes, those of the training, or a guess."""
        array = np.asanyarray(image)
        return as_planes(array, self.axes_of(array.shape, axes))

    def axes_of(self, shape: tuple[int, ...], axes: str | None = None) -> str:
        """Name the axes of an image of this shape: the given ones, those of the training, or a guess.

        Raises `ImageError` if the axes do not match the shape, or the image is in colour.
        """
        trained = self.provenance.axes
        return named_axes(shape, axes or (trained if len(trained) == len(shape) else None))


def _training_planes(images: ArrayLike | Sequence[ArrayLike], axes: str | None, min_side: int) -> list[Planes]:
    """See one image or several as planes that can be trained on; `ImageError` if they are none."""
    many = images if isinstance(images, list | tuple) else [images]
    if not many:
        raise ImageError("Expected at least one image to train on, found none: give one")
    found = []
    for number, image in enumerate(many):
        name = "image" if len(many) == 1 else f"image {number + 1}"
        found.append(as_planes(image, axes, name=name))
        check_planes(found[-1], min_side=min_side, name=name)
    return found


def _preset(settings: TrainSettings) -> Preset:
    return PRESETS[cast(PresetName, settings.preset)]


def train(
    images: ArrayLike | Sequence[ArrayLike],
    axes: str | None = None,
    noise: str | NoiseModel = "auto",
    **settings: Any,
) -> Denoiser:
    """Train on noisy images alone: ``train(stack, preset="quick", max_minutes=5)``.

    Parameters
    ----------
    images
        One array, or a list of arrays, of noisy counts: 2-D, or with any leading axes.
    axes
        Letters of the axes, such as ``"TYX"``; guessed from the number of axes if not given.
    noise
        A noise model, or what `TrainSettings.noise` says.
    **settings
        The other fields of `TrainSettings`.

    Raises
    ------
    DenoiserError
        `ImageError`, `SettingError`, `ModelFileError` before any work, `TrainingError` during it.
    """
    text, model = (noise, None) if isinstance(noise, str) else (noise.describe(), noise)
    denoiser = Denoiser.for_images(images, train_settings(noise=text, **settings), axes, model)
    for _ in denoiser.train_steps():
        pass
    return denoiser


def load(path: str | Path, device: Device = "auto") -> Denoiser:
    """Read a model file; `ModelFileError` if it is none. Executes no code from it."""
    tensors, document = load_checkpoint(path)
    try:
        config = ModelConfig.model_validate(document["config"])
        normalization = Normalization.model_validate(document["scaling"])
        provenance = Provenance.model_validate(document["provenance"])
        model = CoModel(config, from_document(document["noise"]), normalization)
        model.load_state_dict(tensors)
    except (KeyError, ValidationError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelFileError(f"{path} does not hold a model of this package ({reason}): train again") from error
    return Denoiser(model.to_device(device).eval(), provenance)
