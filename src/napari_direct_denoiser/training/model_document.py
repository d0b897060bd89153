"""What a model file tells of a model beside its weights: as JSON, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..calibration import Calibration
from ..co_model import CoModel
from ..config import ModelConfig
from ..errors import ModelFileError
from ..noise import checked, from_document
from ..normalization import Normalization
from .provenance import Provenance
from .students import Student, students_of


def document_of(model: CoModel, provenance: Provenance, others: Sequence[Student]) -> dict[str, Any]:
    """Describe a model, its provenance, and the students of its teacher that it does not use."""
    students = {"students": [student.document() for student in others]} if others else {}
    return {
        "config": model.config.model_dump(mode="json"),
        "scaling": model.normalization.model_dump(mode="json"),
        "noise": model.noise.document(),
        "calibration": model.calibration.model_dump(mode="json"),
        "provenance": provenance.model_dump(mode="json"),
        **students,
    }


def model_of(document: dict[str, Any]) -> tuple[CoModel, Provenance, list[Student]]:
    """Make what `document_of` described, without the weights; errors of any kind if the document is wrong."""
    config = ModelConfig.model_validate(document["config"])
    normalization = Normalization.model_validate(document["scaling"])
    provenance = Provenance.model_validate(document["provenance"])
    described = document["noise"]
    with torch.device("cpu"):
        try:
            noise = checked(lambda: from_document(described))
        except ModelFileError as error:
            raise ValueError(str(error)) from error
    model = CoModel(config, noise, normalization)
    model.calibration = Calibration.model_validate(document.get("calibration", {}))
    return model, provenance, students_of(document.get("students", []), model, provenance)
