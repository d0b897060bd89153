"""A model and where it comes from: train, denoise, save, load. Scripts, docks and command line all use this."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from .checkpoint import load_checkpoint, save_checkpoint
from .co_model import CoModel, Scaling
from .config import PRESETS, Config, Device, ModelConfig, Preset, PresetName, TrainSettings, train_settings
from .device import resolve
from .errors import ImageError, ModelFileError, SettingError
from .images import Planes, as_planes, check_planes
from .noise import from_document, noise_from_text
from .prediction import Output, PredictionProgress, predict_steps, run
from .training import TrainingProgress, train_steps

_HISTORY = 500  # records kept in the file, thinned evenly


class Record(Config):
    """One point of the training history."""

    step: int
    seconds: float
    elbo: float
    direct_loss: float
    validation_elbo: float | None
    validation_direct_loss: float | None


class Provenance(Config):
    """What a model was trained on and how, as stored in its file."""

    settings: TrainSettings
    axes: str
    """Axes of the training images, such as TYX."""
    version: str
    """Of this package."""
    torch_version: str
    steps: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    """Why training ended; None if it was interrupted."""
    history: tuple[Record, ...] = ()


class Denoiser:
    """HDN and Direct Denoiser for one kind of image, with their provenance.

    Make one with `train`, `load`, or `Denoiser.for_images` followed by `train_steps`.
    """

    def __init__(self, model: CoModel, provenance: Provenance, stacks: Sequence[NDArray[np.generic]] = ()) -> None:
        self.model = model
        self.provenance = provenance
        self._stacks = stacks

    @classmethod
    def for_images(
        cls, images: ArrayLike | Sequence[ArrayLike], settings: TrainSettings, axes: str | None = None
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

        Raises
        ------
        ImageError
            An image cannot be trained on.
        SettingError, ModelFileError
            The noise model or device is not there.
        """
        if settings.preset == "auto":
            on_gpu = resolve(settings.device).device.type != "cpu"
            settings = settings.model_copy(update={"preset": "balanced" if on_gpu else "quick"})
        preset = _preset(settings)
        many = images if isinstance(images, list | tuple) else [images]
        if not many:
            raise ImageError("Expected at least one image to train on, found none: give one")
        planes = []
        for number, image in enumerate(many):
            name = "image" if len(many) == 1 else f"image {number + 1}"
            planes.append(as_planes(image, axes, name=name))
            check_planes(planes[-1], min_side=preset.schedule.patch, name=name)
        stacks = [p.data for p in planes]
        config = preset.model.model_copy(
            update={
                "loss": settings.loss,
                "hdn": preset.model.hdn.model_copy(update={"structured": settings.structured}),
            }
        )
        noise = noise_from_text(settings.noise, stacks)
        torch.manual_seed(settings.seed)
        model = CoModel(config, noise, Scaling.of(stacks, config, noise)).on(settings.device).eval()
        provenance = Provenance(
            settings=settings,
            axes=planes[0].axes,
            version=version("napari-direct-denoiser"),
            torch_version=torch.__version__,
        )
        return cls(model, provenance, stacks)

    def train_steps(self) -> Iterator[TrainingProgress]:
        """Train on the images of `for_images`, yielding progress; the model is usable at every yield.

        Raises `TrainingError` where training cannot go on and nothing good was learned.
        """
        settings = self.provenance.settings
        schedule = _preset(settings).schedule
        history: list[Record] = []
        for progress in train_steps(
            self.model,
            self._stacks,
            schedule,
            max_minutes=settings.max_minutes,
            max_steps=settings.max_steps,
            seed=settings.seed,
        ):
            history.append(
                Record(
                    step=progress.step,
                    seconds=progress.elapsed_seconds,
                    elbo=progress.elbo,
                    direct_loss=progress.direct_loss,
                    validation_elbo=progress.validation_elbo,
                    validation_direct_loss=progress.validation_direct_loss,
                )
            )
            stride = -(-len(history) // _HISTORY)
            self.provenance = self.provenance.model_copy(
                update={
                    "steps": progress.step,
                    "seconds": progress.elapsed_seconds,
                    "stopped": progress.stopped,
                    "history": tuple(history[::-stride][::-1]),  # the newest is always among them
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
    ) -> Generator[PredictionProgress, None, dict[str, NDArray[np.float32]]]:
        """Denoise, yielding progress; returns float32 arrays in the image's shape and units by output.

        ``"sample"`` has the samples as an additional first axis. Raises `ImageError` before any work.
        """
        planes = self.planes(image, axes)
        check_planes(planes, min_side=2, name="image", require_contrast=False)
        results = yield from predict_steps(self.model, planes.data, outputs, samples=samples, seed=seed)
        return {output: planes.restore(result) for output, result in results.items()}

    def denoise(self, image: ArrayLike) -> NDArray[np.float32]:
        """Denoise in one pass of the Direct Denoiser: float32 in the image's shape and units."""
        return run(self.denoise_steps(image, ["direct"]))["direct"]

    def sample(self, image: ArrayLike, n: int, seed: int = 0) -> NDArray[np.float32]:
        """Draw ``n`` clean images from the denoising distribution of HDN: (n, *image.shape)."""
        return run(self.denoise_steps(image, ["sample"], samples=n, seed=seed))["sample"]

    def consensus(
        self, image: ArrayLike, n: int, how: Literal["mean", "median"] = "mean", seed: int = 0
    ) -> NDArray[np.float32]:
        """Mean (MMSE) or pixel-wise median (MMAE) of ``n`` samples of HDN, in the image's shape and units."""
        if how not in ("mean", "median"):
            raise SettingError(f"Expected mean or median, found {how!r}")
        return run(self.denoise_steps(image, [how], samples=n, seed=seed))[how]

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, atomically; `DenoiserError` if that is not possible."""
        document = {
            "config": self.model.config.model_dump(mode="json"),
            "scaling": self.model.scaling.model_dump(mode="json"),
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
        trained = self.provenance.axes
        return as_planes(array, axes or (trained if len(trained) == array.ndim else None))


def _preset(settings: TrainSettings) -> Preset:
    return PRESETS[cast(PresetName, settings.preset)]


def train(images: ArrayLike | Sequence[ArrayLike], axes: str | None = None, **settings: Any) -> Denoiser:
    """Train on noisy images alone: ``train(stack, preset="quick", max_minutes=5)``.

    Parameters
    ----------
    images
        One array, or a list of arrays, of noisy counts: 2-D, or with any leading axes.
    axes
        Letters of the axes, such as ``"TYX"``; guessed from the number of axes if not given.
    **settings
        Fields of `TrainSettings`.

    Raises
    ------
    DenoiserError
        `ImageError`, `SettingError`, `ModelFileError` before any work, `TrainingError` during it.
    """
    chosen = train_settings(**settings)
    denoiser = Denoiser.for_images(images, chosen, axes)
    for _ in denoiser.train_steps():
        pass
    return denoiser


def load(path: str | Path, device: Device = "auto") -> Denoiser:
    """Read a model file; `ModelFileError` if it is none. Executes no code from it."""
    tensors, document = load_checkpoint(path)
    try:
        config = ModelConfig.model_validate(document["config"])
        scaling = Scaling.model_validate(document["scaling"])
        provenance = Provenance.model_validate(document["provenance"])
        model = CoModel(config, from_document(document["noise"]), scaling)
        model.load_state_dict(tensors)
    except (KeyError, ValidationError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelFileError(f"{path} does not hold a model of this package ({reason}): train again") from error
    return Denoiser(model.on(device).eval(), provenance)
