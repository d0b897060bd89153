"""Fixtures of the tests of trainings."""

from __future__ import annotations

import pytest


@pytest.fixture
def few_patches_to_validate(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is learned: a third of the time of a short training is that of its validations."""
    monkeypatch.setattr("napari_direct_denoiser.training.validation._PATCHES", 8)
