from __future__ import annotations

import pytest
from qtpy.QtWidgets import QWidget

from napari_direct_denoiser._napari.forms import Form, TrainForm, control, duration
from napari_direct_denoiser.config import DenoiseSettings, TrainSettings
from napari_direct_denoiser.errors import SettingError


@pytest.fixture
def form(qtbot):
    form = TrainForm()
    form.owner = QWidget()  # a layout shows and hides its rows in a widget only
    form.owner.setLayout(form)
    qtbot.addWidget(form.owner)
    return form


def test_untouched_form_is_the_defaults(form):
    assert TrainSettings(**form.values()) == TrainSettings()


def test_each_control_is_labelled_and_explained_by_the_settings(form):
    for name in ("preset", "noise", "loss", "structured", "max_minutes"):
        assert form[name].tooltip == TrainSettings.model_fields[name].description


def test_choices_become_settings(form):
    form["preset"].value = "paper"
    form["loss"].value = "l1"
    form["structured"].value = True
    form["max_minutes"].value = 2.5
    form["noise"].value = "poisson"
    form["gain"].value, form["offset"].value, form["read_noise"].value = 2.5, 100, 3
    assert TrainSettings(**form.values()) == TrainSettings(
        preset="paper", loss="l1", structured=True, max_minutes=2.5, noise="poisson:2.5,100,3"
    )


def test_only_the_numbers_of_the_chosen_noise_model_are_shown(form):
    shown = {kind: [] for kind in ("auto", "poisson", "gaussian", "file")}
    for kind, names in shown.items():
        form["noise"].value = kind
        fields = ("gain", "offset", "read_noise", "sigma", "noise_file")
        names += [name for name in fields if form.isRowVisible(form[name].native)]
    assert shown == {
        "auto": [],
        "poisson": ["gain", "offset", "read_noise"],
        "gaussian": ["sigma"],
        "file": ["noise_file"],
    }


def test_limits_of_the_settings_are_limits_of_the_control(qtbot):
    samples, seed, steps = (
        control(DenoiseSettings, "samples"),
        control(DenoiseSettings, "seed"),
        control(TrainSettings, "max_steps"),
    )
    assert samples.min == 1
    assert seed.max == 2**31 - 1
    assert Form([samples, steps]).values() == {"samples": 50, "max_steps": None}


def test_noise_model_file_must_be_chosen(form):
    form["noise"].value = "file"
    with pytest.raises(SettingError, match="found none"):
        form.values()
    form["noise_file"].value = "noise.npz"
    assert form.values()["noise"].endswith("noise.npz")


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.6, "8 s"), (59.7, "1 min 00 s"), (130, "2 min 10 s"), (3900, "1 h 05 min"), (-1, "0 s")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words
