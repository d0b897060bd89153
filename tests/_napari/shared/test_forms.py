from __future__ import annotations

import pytest
from qtpy.QtWidgets import QWidget

from napari_direct_denoiser._napari.shared.forms import Form, control, duration
from napari_direct_denoiser._napari.train.noise_section import NoiseForm
from napari_direct_denoiser._napari.train.parts import NotReadyError
from napari_direct_denoiser.config import DenoiseSettings, TrainSettings


@pytest.fixture
def form(qtbot):
    form = NoiseForm()
    form.owner = QWidget()  # a layout shows and hides its rows in a widget only
    form.owner.setLayout(form)
    qtbot.addWidget(form.owner)
    return form


@pytest.mark.parametrize("name", TrainSettings.model_fields)
def test_untouched_control_is_the_default_and_explained_by_the_settings(qtbot, name):
    made = control(TrainSettings, name)
    assert made.tooltip == TrainSettings.model_fields[name].description
    assert Form([made]).values() == {name: getattr(TrainSettings(), name)}


def test_limits_of_the_settings_are_limits_of_the_control(qtbot):
    samples, seed, steps = (
        control(DenoiseSettings, "samples"),
        control(DenoiseSettings, "seed"),
        control(TrainSettings, "max_steps"),
    )
    assert samples.min == 1
    assert seed.max == 2**31 - 1
    assert Form([samples, steps]).values() == {"samples": 50, "max_steps": None}


def test_only_what_the_chosen_noise_model_needs_is_shown(form):
    needed = {kind: [] for kind in ("auto", "poisson", "gaussian", "file", "calibration")}
    for kind, names in needed.items():
        form["noise"].value = kind
        fields = ("gain", "offset", "read_noise", "sigma", "noise_file")
        names += [name for name in fields if form.isRowVisible(form[name].native)]
        names += [name for name in ("calibration", "signal") if form.isRowVisible(getattr(form, name))]
    assert needed == {
        "auto": [],
        "poisson": ["gain", "offset", "read_noise"],
        "gaussian": ["sigma"],
        "file": ["noise_file"],
        "calibration": ["calibration", "signal"],
    }


def test_noise_model_file_must_be_there(form, tmp_path):
    form["noise"].value = "file"
    with pytest.raises(NotReadyError, match="found none"):
        form.choice()
    form["noise_file"].value = tmp_path / "noise.npz"
    with pytest.raises(NotReadyError, match=r"noise\.npz"):
        form.choice()
    (tmp_path / "noise.npz").touch()
    assert form.choice().text == str(tmp_path / "noise.npz")


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.6, "8 s"), (59.7, "1 min 00 s"), (130, "2 min 10 s"), (3900, "1 h 05 min"), (-1, "0 s")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words
