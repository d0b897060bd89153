"""Students of one teacher: Direct Denoisers that learned from the same HDN, and share a model file with it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from ..calibration import Calibration
from ..co_model import CoModel
from ..config import PresetName, TrainSettings, UNetConfig
from ..errors import SettingError
from ..networks import UNet
from ..presets import PRESETS
from .provenance import Provenance
from .targets import CENTRAL

MOST = 12  # students of a model file, whose description has a largest size
_ESTIMATES = {"l2": "mean", "l1": "median", "tukey": "mode", "perceptual": "perceptual"}
_FILTERS = {"small": 0.5, "standard": 1.0, "large": 2.0}  # channels of each level, times those of the preset
_PREFIX = "students"


@dataclass(frozen=True, eq=False)
class Student:
    """A Direct Denoiser, and all that belongs to it rather than to its teacher."""

    unet: UNet
    calibration: Calibration
    """Of what it predicts."""
    provenance: Provenance

    @classmethod
    def of(cls, model: CoModel, provenance: Provenance) -> Student:
        """The student that a model uses."""
        return cls(model.unet, model.calibration, provenance)

    @property
    def loss(self) -> str:
        """What it was trained with."""
        return self.provenance.settings.loss

    @property
    def name(self) -> str:
        """What it estimates, and its size if that is not the usual one: see `name_of`."""
        return name_of(self.provenance.settings)

    def used_in(self, model: CoModel) -> CoModel:
        """Give the model of the same teacher that uses this student; they share the networks."""
        return model.with_student(self.unet, self.loss, self.calibration)

    def document(self) -> dict[str, Any]:
        """All but the weights, for a model file."""
        return {
            "direct": self.unet.config.model_dump(mode="json"),
            "calibration": self.calibration.model_dump(mode="json"),
            "provenance": self.provenance.model_dump(mode="json"),
        }


def name_of(settings: TrainSettings) -> str:
    """Name a student: ``mean``, ``median``, ``mode``, ``perceptual``, ``quantile 0.05``, ``mean small``."""
    kind, _, level = settings.loss.partition(":")
    name = f"{kind} {float(level):g}" if level else _ESTIMATES[kind]
    return name if settings.student_size == "standard" else f"{name} {settings.student_size}"


def named(students: Iterable[Student], name: str) -> Student:
    """Find a student by its name; `SettingError` if there is none."""
    known = {student.name: student for student in students}
    if name not in known:
        raise SettingError(f"Expected a student of this model ({', '.join(known)}), found {name}: choose one of them")
    return known[name]


def student_to_train(
    students: Sequence[Student], model: CoModel, settings: TrainSettings
) -> tuple[CoModel, Student, list[Student]]:
    """Prepare the training of a student of a finished teacher.

    Parameters
    ----------
    students
        All of the teacher, the one in use first.
    model
        The teacher, with any of them.
    settings
        Of the training: they name the new student.

    Returns
    -------
    model : CoModel
        A copy with the new student to train. It starts from the one of the same name, or else from another of the same
        size; if there is none, from chance.
    guide : Student
        A copy of the one that predicts a part of the targets: that of the same name, or else the first that estimates
        the mean or the median.
    others : list of Student
        Students to keep beside the new one: all of other names.

    Raises
    ------
    SettingError
        If there would be too many.
    """
    name = name_of(settings)
    same = [student for student in students if student.name == name]
    others = [student for student in students if student.name != name]
    if len(others) >= MOST:
        raise SettingError(f"Expected at most {MOST} students in a model, found {len(others)} beside {name}: leave one")
    guide = next(iter([*same, *(student for student in others if student.loss in CENTRAL)]), students[0])
    usual = [guide, *others]
    start = next((each for each in usual if each.provenance.settings.student_size == settings.student_size), None)
    if start is None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            unet = model.new_unet(_direct_of(settings))
    else:
        unet = start.unet
    learner = model.with_student(unet, settings.loss, start.calibration if start else Calibration())
    return copy.deepcopy(learner), replace(guide, unet=copy.deepcopy(guide.unet)), others


def weights_of(students: Sequence[Student]) -> dict[str, Tensor]:
    """Weights of students, by their names in a model file."""
    return {
        f"{_PREFIX}.{number}.{name}": tensor
        for number, student in enumerate(students)
        for name, tensor in student.unet.state_dict().items()
    }


def students_of(documents: Any, model: CoModel, provenance: Provenance) -> list[Student]:
    """Make students without their weights from what the file of a model tells of them.

    Raises errors of any kind if that is wrong.
    """
    if not isinstance(documents, list) or len(documents) >= MOST:
        raise ValueError(f"expected a list of less than {MOST} students")
    students = []
    for each in documents:
        known = Provenance.model_validate(each["provenance"])
        calibration = Calibration.model_validate(each["calibration"])
        unet = model.new_unet(UNetConfig.model_validate(each["direct"]))
        students.append(Student(unet, calibration, known))
    if len({name_of(provenance.settings), *(student.name for student in students)}) <= len(students):
        raise ValueError("expected students of different names")
    return students


def take_weights(students: Sequence[Student], tensors: dict[str, Tensor]) -> None:
    """Put weights of a model file into students that have none."""
    for number, student in enumerate(students):
        prefix = f"{_PREFIX}.{number}."
        weights = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
        student.unet.load_state_dict(weights, assign=True)
        student.unet.eval()


def _direct_of(settings: TrainSettings) -> UNetConfig:
    """Shape of a student of this size."""
    direct = PRESETS[cast(PresetName, settings.preset)].model.direct
    filters = tuple(max(round(_FILTERS[settings.student_size] * each), 1) for each in direct.filters)
    return direct.model_copy(update={"filters": filters})
