"""The whole course of a training: the training loop, calibration of standard deviations, and provenance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..calibration import NO_BIAS
from ..co_model import CoModel
from ..config import PresetName, TrainSettings
from ..data.images import Frames
from ..errors import TrainingError
from ..presets import PRESETS, Preset
from ..progress import TrainingProgress
from ..system import free_memory, is_out_of_memory
from .calibrate import calibrate
from .loop import Training
from .mean_or_direct import AgainstMean, direct_over_mean
from .provenance import History, Provenance, Record
from .state import State, fingerprint
from .world import ALONE, World

_FIRST_CALIBRATION = 50  # steps after which predicted standard deviations are calibrated; at the end they are again
_CALIBRATION_RATIO = 4  # and each time after so many times more steps: it takes seconds
_DIVNOISING_RATE = 2e-3  # learning rate of DivNoising, which starts from chance; HDN has pretrained weights


def preset_of(settings: TrainSettings) -> Preset:
    """The preset of the settings, with the schedule that suits the teacher."""
    preset = PRESETS[cast(PresetName, settings.preset)]
    changed: dict[str, float] = {}
    if settings.student_only:
        changed["student_only_fraction"] = 1.0
    elif settings.teacher == "divnoising" and preset.pretrained:
        changed["hdn_rate"] = _DIVNOISING_RATE
    return preset.model_copy(update={"schedule": preset.schedule.model_copy(update=changed)})


class Course:
    """Trains a model in place, and keeps its provenance.

    Parameters
    ----------
    model
        Networks to train.
    provenance
        Of the model, with the settings of this training. Steps, seconds and history go on.
    stacks
        Noisy images (planes, Y, X), counts.
    preset
        Networks and schedule.
    frame_steps, cancelled, world, teacher
        See `Training`.
    state
        What `state` gave when this training was interrupted.

    Attributes
    ----------
    provenance
        As of the last record.
    world
        The processes that train together.
    """

    def __init__(
        self,
        model: CoModel,
        provenance: Provenance,
        stacks: Sequence[NDArray[np.generic]],
        preset: Preset,
        *,
        frame_steps: Sequence[int] = (),
        cancelled: Callable[[], bool] = lambda: False,
        world: World = ALONE,
        state: State | None = None,
        teacher: CoModel | None = None,
    ) -> None:
        saved = state or {"before": (provenance.steps, provenance.seconds), "calibrated": 0, "training": None}
        self.provenance, self.world = provenance, world
        self._model, self._stacks, self._frame_steps = model, stacks, frame_steps
        self._before_steps, self._before_seconds = saved["before"]
        self._calibrated: int = saved["calibrated"] or _FIRST_CALIBRATION // _CALIBRATION_RATIO
        self._images: State | None = None
        self._schedule = preset.schedule
        settings = provenance.settings
        # the bias of the weights that training begins with is not that of later ones
        model.calibration = model.calibration.model_copy(update={"direct": NO_BIAS})
        self._training = Training(
            model,
            stacks,
            preset.schedule,
            max_minutes=settings.max_minutes,
            max_steps=settings.max_steps,
            seed=settings.seed + self._before_steps,
            refine_noise=settings.refine_noise,
            trained=self._before_steps > 0 or preset.pretrained,
            frame_steps=frame_steps,
            cancelled=cancelled,
            world=world,
            state=saved["training"],
            teacher=teacher,
        )

    def steps(self) -> Iterator[TrainingProgress]:
        """Train, yielding progress; the model is usable at every yield. Errors are those of `Training.steps`."""
        try:
            yield from self._steps()
        except (RuntimeError, MemoryError) as error:  # steps take smaller parts of a batch: this was between them
            if not is_out_of_memory(error):
                raise
            free_memory(self._model.device)
            raise TrainingError(
                f"Out of memory when the weights were judged, after {self.provenance.steps} steps: close other "
                "programs, or train on another device"
            ) from error

    def _steps(self) -> Iterator[TrainingProgress]:
        history, against = History(self.provenance.history), list[AgainstMean]()
        for progress in self._training.steps():
            if progress.stopped or progress.step >= _CALIBRATION_RATIO * self._calibrated:
                self._calibrated = progress.step
                against = self._calibrate(final=progress.stopped is not None)
            judged = progress.stopped and progress.estimated_gain_db is not None
            over_mean = direct_over_mean(against) if judged else None
            progress = replace(
                progress,
                estimated_over_mean_db=over_mean and over_mean.db,
                estimated_over_mean_error_db=over_mean and over_mean.error_db,
                step=self._before_steps + progress.step,
                total_steps=progress.total_steps and self._before_steps + progress.total_steps,
                elapsed_seconds=self._before_seconds + progress.elapsed_seconds,
            )
            history.add(Record.of(progress))
            self.provenance = self.provenance.model_copy(
                update={
                    "steps": progress.step,
                    "seconds": progress.elapsed_seconds,
                    "stopped": progress.stopped,
                    "learned_frames": self._training.learns_frames,
                    "history": history.records,
                }
            )
            yield progress

    def _calibrate(self, *, final: bool) -> list[AgainstMean]:
        """Calibrate standard deviations; that of samples belongs to the teacher, and stays if only a student learns."""
        settings, before = self.provenance.settings, self._model.calibration
        steps = self._frame_steps or [len(stack) for stack in self._stacks]
        measured = [
            Frames(self._model.noise.measured(stack), step) for stack, step in zip(self._stacks, steps, strict=True)
        ]
        trained = self._calibrated * self._schedule.batch * self._schedule.patch**2
        found, against = calibrate(self._model, measured, settings.seed, final=final, trained_pixels=trained)
        kept = {"samples": before.samples} if settings.student_only else {}
        self._model.calibration = found.model_copy(update=kept)
        return against

    def state(self) -> State:
        """All that the next steps depend on, at a yield of `steps`, and what tells the images from others.

        All processes must call this.
        """
        self._images = self._images or fingerprint(self._stacks)
        return {
            "images": self._images,
            "frame_steps": list(self._frame_steps),
            "before": (self._before_steps, self._before_seconds),
            "calibrated": self._calibrated,
            "training": self._training.state(),
        }
