"""`Denoiser`: train, load, denoise, sample, save. Scripts, docks and command line all use this."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checkpoint import load_model, load_training, save_model, save_training, start_from_pretrained
from .co_model import CoModel
from .config import Device, StudentSize, TrainSettings, train_settings
from .data.images import Frames
from .data.stacks import open_stacks
from .errors import TrainingError
from .evaluation.domain_shift import check_same_kind
from .noise import Finding, NoiseFit, NoiseModel, diagnose, fit_noise
from .normalization import Normalization
from .prediction.predictor import Predictor
from .progress import TrainingProgress
from .training.course import Course, preset_of
from .training.noise_kind import choose_kind
from .training.provenance import Provenance, summary
from .training.state import State, same_settings, take_up
from .training.students import Student, named, student_to_train
from .training.world import ALONE, World


class Denoiser(Predictor):
    """HDN and Direct Denoiser for one kind of image, with their provenance.

    Make one with `train`, `load`, or `Denoiser.for_images` followed by `train_steps`.
    """

    noise_fit: NoiseFit | None = None
    """How the noise model was found; None for a model from a file."""
    findings: tuple[Finding, ...] = ()
    """What is unusual about the training images, and what to do about it."""

    def __init__(
        self,
        model: CoModel,
        provenance: Provenance,
        stacks: Sequence[NDArray[np.generic]] = (),
        others: Sequence[Student] = (),
    ) -> None:
        self.model, self.provenance = model, provenance
        self._stacks, self._others = stacks, others
        self._guide: Student | None = None
        """The student of a finished teacher that predicts a part of the targets of the one to train."""
        self._frame_steps: Sequence[int] = ()
        """How many planes of each stack successive frames are apart."""
        self._saved: State | None = None
        self._course: Course | None = None

    @classmethod
    def for_images(
        cls,
        images: ArrayLike | Sequence[ArrayLike],
        settings: TrainSettings,
        axes: str | Sequence[str | None] | None = None,
        noise: NoiseModel | None = None,
        *,
        channel: int | None = None,
        names: Sequence[str] = (),
    ) -> Denoiser:
        """Check everything, fit the noise model and build untrained networks.

        Parameters
        ----------
        images
            Noisy counts: one array or a list of arrays, with at least two axes; see `open_stacks` for lazy ones.
        settings
            What to train.
        axes
            Letters of the axes, such as ``"TYX"``, of all images or a list for each; guessed if not given.
        noise
            A noise model, such as one from `fit_calibration`, instead of ``settings.noise``.
        channel, names
            Take this channel of the images, from 0: a model denoises one kind of image. What to call them in errors.

        Raises
        ------
        ImageError
            An image cannot be trained on.
        SettingError, ModelFileError
            The noise model or device does not exist.
        """
        settings = _chosen(settings, noise)
        preset = preset_of(settings)
        config = preset.networks(settings)
        frames, axes = open_stacks(images, axes, min_side=preset.schedule.patch, channel=channel, names=names)
        stacks = [each.planes for each in frames]
        fit = fit_noise(settings.noise if noise is None else noise, frames)
        normalization = Normalization.of(stacks, config.units, fit.model)
        model = CoModel.initialized(config, fit.model, normalization, settings.seed)
        if preset.pretrained:
            start_from_pretrained(model)
            fit = choose_kind(model, stacks, fit) if settings.noise.strip() == "auto" else fit
        model.to_device(settings.device).eval()
        return cls._to_train(model, Provenance.begun(settings, axes), frames, fit)

    @classmethod
    def _to_train(cls, model: CoModel, provenance: Provenance, frames: Sequence[Frames], fit: NoiseFit) -> Denoiser:
        stacks = [each.planes for each in frames]
        shapes = [(len(stack), *stack.shape[1:]) for stack in stacks]
        denoiser = cls(model, provenance.trained_on(shapes), stacks)
        denoiser.noise_fit, denoiser.findings = fit, diagnose(frames, fit)
        denoiser._frame_steps = [each.step for each in frames]
        return denoiser

    def continued(
        self,
        images: ArrayLike | Sequence[ArrayLike],
        axes: str | Sequence[str | None] | None = None,
        *,
        max_minutes: float | None = None,
        max_steps: int | None = None,
        device: Device = "auto",
        loss: str | None = None,
        student_only: bool = False,
        student_size: StudentSize = "standard",
        channel: int | None = None,
        names: Sequence[str] = (),
    ) -> Denoiser:
        """Copy this model for further training, which `train_steps` of the copy then does.

        Weights, noise model and normalization are kept, the optimizers start anew; steps, seconds and history go on.

        Parameters
        ----------
        images, axes, channel, names
            What to train on, as in `for_images`: the same images or others of the same kind.
        max_minutes, max_steps
            Limits of the further training; those of the preset if neither is given.
        device
            Where to compute.
        loss
            Another loss of the Direct Denoiser.
        student_only
            Keep HDN as it is: it draws the samples that the Direct Denoiser learns from (section 4 of the paper). The
            copy keeps the students of other names. Otherwise it has one: HDN is no longer what the others learned from.
        student_size
            Size of that Direct Denoiser; see `TrainSettings`.

        Raises
        ------
        ImageError
            An image cannot be trained on, or HDN was trained on images of another kind and is to stay as it is.
        SettingError
            A setting makes no sense, the noise model does not cover the images, or there is no such device.
        """
        changed: dict[str, Any] = {"max_minutes": max_minutes, "max_steps": max_steps, "device": device}
        changed |= {"student_only": student_only, "refine_noise": False} | ({} if loss is None else {"loss": loss})
        changed |= {"student_size": student_size} if student_only else {}
        settings = train_settings(**{**self.provenance.settings.model_dump(), **changed})
        side = preset_of(settings).schedule.patch
        frames, _ = open_stacks(images, axes, min_side=side, channel=channel, names=names)
        model, guide, others = copy.deepcopy(self.model), None, list[Student]()
        if student_only:
            check_same_kind(self.model, [each.planes for each in frames])
            model, guide, others = student_to_train(self._all, self.model, settings)
        model.to_device(device).config = model.config.model_copy(update={"loss": settings.loss})
        fit = fit_noise(model.noise, frames)
        model.change_noise(fit.model)  # the same, unless these images have line noise and those before had none
        provenance = self.provenance.model_copy(update={"settings": settings, "stopped": None})
        denoiser = Denoiser._to_train(model, provenance, frames, fit)
        denoiser._others, denoiser._guide = others, guide
        return denoiser

    @classmethod
    def resumed(
        cls,
        path: str | Path,
        images: ArrayLike | Sequence[ArrayLike],
        settings: TrainSettings,
        axes: str | Sequence[str | None] | None = None,
        *,
        channel: int | None = None,
        names: Sequence[str] = (),
    ) -> Denoiser:
        """Take up an interrupted training, which `train_steps` then goes on with as if nothing had happened.

        Parameters
        ----------
        path
            A file written by `save_training`.
        images, axes, channel, names
            What was trained on, as in `for_images`.
        settings
            Those of the training. Its limits are the new ones, if it has any, and its device may be another one.

        Raises
        ------
        ModelFileError
            The file cannot be read.
        SettingError
            The settings are others, or the device is not there.
        ImageError
            The images are others.
        """
        model, provenance, others, state = load_training(path)
        settings = same_settings(provenance.settings, _chosen(settings), path)
        side = preset_of(settings).schedule.patch
        frames, _ = open_stacks(images, axes, min_side=side, channel=channel, names=names)
        stacks = [each.planes for each in frames]
        take_up(model, stacks, state, path)
        model.to_device(settings.device).eval()
        denoiser = cls(model, provenance.model_copy(update={"settings": settings}), stacks, others)
        denoiser._saved, denoiser._frame_steps = state, state["frame_steps"]
        return denoiser

    def train_steps(
        self, cancelled: Callable[[], bool] = lambda: False, world: World = ALONE
    ) -> Iterator[TrainingProgress]:
        """Train on the images that were given, yielding progress; the model is usable at every yield.

        The images are let go at the end. Once ``cancelled`` says so, from any thread, training ends within a step.
        The processes of ``world`` train together. Raises `TrainingError` where training cannot go on and nothing good
        was learned.
        """
        if not self._stacks:
            raise TrainingError("Expected images to train on, found none: make the model with for_images or continued")
        stacks, self._stacks = self._stacks, ()
        saved, self._saved = self._saved, None
        teacher = None if self._guide is None else self._guide.used_in(self.model)
        options: dict[str, Any] = {"cancelled": cancelled, "world": world, "state": saved, "teacher": teacher}
        preset, frame_steps = preset_of(self.provenance.settings), self._frame_steps
        self._course = Course(self.model, self.provenance, stacks, preset, frame_steps=frame_steps, **options)
        del stacks, saved, teacher, options  # the course lets them go
        try:
            for progress in self._course.steps():
                self.provenance = self._course.provenance
                yield progress
        finally:
            self._course = None

    def save_training(self, path: str | Path) -> None:
        """Write a training that is under way to a file, from which `resumed` goes on, atomically.

        Between two records of `train_steps` only. If several processes train together, all must call this; the first
        writes.

        Raises
        ------
        TrainingError
            If no training is under way.
        DenoiserError
            If the file cannot be written.
        """
        if self._course is None:
            raise TrainingError("Expected a training that is under way, found none: call this while train_steps runs")
        state = self._course.state()
        if self._course.world.is_first:
            save_training(path, self.model, self.provenance, state, self._others)

    def check_settings(self, settings: TrainSettings, path: str | Path) -> None:
        """Raise `SettingError` if this model, read from `path`, was trained with settings that are not these.

        Limits and device may differ.
        """
        same_settings(self.provenance.settings, _chosen(settings), path)

    @property
    def trained_axes(self) -> str:
        """Axes of the training images, such as TYX."""
        return self.provenance.axes

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file, atomically; `DenoiserError` if that is not possible."""
        save_model(path, self.model, self.provenance, self._others)

    @property
    def students(self) -> tuple[str, ...]:
        """Names of the Direct Denoisers of this teacher, the one in use first: ``mean``, ``quantile 0.05`` ..."""
        return tuple(student.name for student in self._all)

    def student(self, name: str) -> Denoiser:
        """Give the model with another of its `students` in use; `SettingError` if there is none of this name."""
        wanted = named(self._all, name)
        others = [student for student in self._all if student.name != name]
        return Denoiser(wanted.used_in(self.model), wanted.provenance, others=others)

    @property
    def _all(self) -> list[Student]:
        return [Student.of(self.model, self.provenance), *self._others]

    def summary(self) -> dict[str, Any]:
        """What `direct-denoiser info` shows."""
        return {**summary(self.model, self.provenance), "students": list(self.students)}


def _chosen(settings: TrainSettings, noise: NoiseModel | None = None) -> TrainSettings:
    chosen = {"preset": "quick"} if settings.preset == "auto" else {}
    if noise is not None and settings.noise.strip() == "auto":
        chosen["noise"] = noise.describe()
    return settings.model_copy(update=chosen)


def train(
    images: ArrayLike | Sequence[ArrayLike],
    axes: str | Sequence[str | None] | None = None,
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


def load(path: str | Path, device: Device = "auto", student: str | None = None) -> Denoiser:
    """Read a model file; executes no code from it. With a student, the model uses that one of `Denoiser.students`.

    Raises
    ------
    ModelFileError
        If it is no model file, is damaged, or was written by a newer version whose models differ.
    SettingError
        If the device or the student is not there.
    """
    model, provenance, others = load_model(path)
    denoiser = Denoiser(model.to_device(device).eval(), provenance, others=others)
    return denoiser if student is None else denoiser.student(student)
