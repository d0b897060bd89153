"""The Noise model section of the Train dock, with the real engine."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from stand_in import errors_shown, noisy_image

from napari_direct_denoiser import noise, read_noise
from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser.noise import Finding

pytestmark = pytest.mark.gui


def correlated_image(rng):
    white = rng.normal(0, 10, (4, 96, 96))
    return (500 + white + 0.8 * np.roll(white, 1, 2)).astype(np.float32)


@pytest.fixture
def viewer(light_viewer):
    return light_viewer


@pytest.fixture
def dock(light_dock):
    return light_dock


def test_noise_is_looked_at_in_a_worker(viewer, dock, finish, rng, monkeypatch):
    threads = []
    fit_noise = noise.fit_noise

    def watched(*arguments):
        threads.append(threading.current_thread())
        return fit_noise(*arguments)

    monkeypatch.setattr(noise, "fit_noise", watched)
    viewer.add_image(noisy_image(rng, (4, 128, 128)))
    dock.noise.look_button.click()
    assert "Nothing unusual" in finish(dock)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    fit = dock.noise.look.fit
    assert fit.model.gain == pytest.approx(2, rel=0.1)
    assert "gain" in dock.noise.words.text()
    plot = dock.noise.plot
    np.testing.assert_array_equal(plot.measured.getData()[0], fit.signals)
    signals, variances = plot.curve.getData()
    np.testing.assert_allclose(variances, 2 * (signals - 100) + 9, rtol=0.15)
    edges, heights = plot.bars.getData()
    values, density = plot.density.getData()
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1)
    assert np.trapezoid(density, values) == pytest.approx(1, abs=0.02)
    before = plot.chosen.value()
    dock.noise.slider.setValue(90)
    assert plot.chosen.value() > before


def test_correlated_noise_is_shown_and_said_to_be_modelled(viewer, dock, finish, rng):
    viewer.add_image(correlated_image(rng))
    dock.noise.look_button.click()
    finish(dock)
    findings, plot = dock.noise.findings, dock.noise.plot
    assert re.search(r"along x \(correlation 0\.[45]\d\): it is modelled", findings.words.text())
    assert not findings.button.isVisibleTo(dock)
    assert not findings.auto_button.isVisibleTo(dock)
    assert plot.correlation.isVisible()
    for axis, neighbours in (("x", 0.8 / 1.64), ("y", 0.0)):
        for curve in (plot.correlated[axis], plot.correlation_model[axis]):
            distances, correlations = curve.getData()
            assert list(distances) == list(range(7))
            np.testing.assert_allclose(correlations[:3], [1, neighbours, 0], atol=0.05)
    edges, heights = plot.bars.getData()
    values, density = plot.density.getData()
    assert np.trapezoid(density, values) == pytest.approx(1, abs=0.02)
    counted = np.sqrt(np.average((edges[:-1] / 2 + edges[1:] / 2 - 500) ** 2, weights=heights))
    modelled = np.sqrt(np.average((values - 500) ** 2, weights=density))
    assert counted == pytest.approx(10 * 1.64**0.5, rel=0.1)
    assert modelled == pytest.approx(10 * 1.64**0.5, rel=0.1)
    viewer.add_image(noisy_image(rng, (4, 128, 128)))
    assert not findings.isVisibleTo(dock)  # they were of the other layer
    dock.noise.look_button.click()
    finish(dock)
    assert plot.correlation.scene() is None  # white noise


def test_a_model_by_numbers_that_does_not_know_the_correlation_offers_auto(viewer, dock, finish, rng):
    viewer.add_image(correlated_image(rng))
    dock.noise.form["noise"].value = "gaussian"
    dock.noise.look_button.click()
    finish(dock)
    findings = dock.noise.findings
    assert "set the noise to auto" in findings.words.text()
    assert not findings.button.isVisibleTo(dock)
    findings.auto_button.click()
    finish(dock)
    assert dock.settings().noise == "auto"
    assert "it is modelled" in findings.words.text()
    assert not findings.auto_button.isVisibleTo(dock)


def test_correlation_that_cannot_be_modelled_offers_structured(dock):
    dock.noise.findings.show_findings([Finding("correlated", "Neighbours share noise", 0.9, suggests_structured=True)])
    assert dock.noise.findings.button.isVisibleTo(dock)
    dock.noise.findings.button.click()
    assert dock.settings().structured
    assert not dock.noise.findings.button.isVisibleTo(dock)


def test_training_shows_its_own_fit_and_findings(viewer, dock, finish, rng):
    viewer.add_image(correlated_image(rng))
    dock.advanced["max_steps"].value = 1
    dock.train_button.click()
    finish(dock)
    assert dock.noise.look.fit is MODELS.all[0].denoiser.noise_fit
    assert "share noise" in dock.noise.findings.words.text()


def test_noise_model_by_numbers(viewer, dock, finish, rng):
    viewer.add_image(noisy_image(rng))
    dock.noise.form["noise"].value = "poisson"
    for name, value in (("gain", 2.5), ("offset", 99.0), ("read_noise", 0.0)):
        dock.noise.form[name].value = value
    assert dock.settings().noise == "poisson:2.5,99,0"
    dock.noise.form["noise"].value = "gaussian"
    dock.noise.form["sigma"].value = 0.025
    assert dock.settings().noise == "gaussian:0.025"
    dock.advanced["max_steps"].value = 1
    dock.train_button.click()
    finish(dock)
    assert MODELS.all[0].denoiser.model.noise.sigma == 0.025


@pytest.mark.slow
def test_noise_model_from_a_calibration_layer_is_used_and_saved(viewer, dock, finish, rng, file_dialog, tmp_path):
    scene = np.linspace(5, 80, 64) * np.ones((64, 1))
    calibration = viewer.add_image((100 + 2 * rng.poisson(scene, (30, 64, 64))).astype(np.float32), name="calibration")
    viewer.add_image((100 + 2 * rng.poisson(scene, (3, 64, 64))).astype(np.float32), name="cells")
    dock.noise.form["noise"].value = "calibration"
    assert dock.noise.form.calibration.layer == calibration
    dock.noise.look_button.click()
    finish(dock)
    look = dock.noise.look
    assert look.calibration.source == "calibration"
    signals, variances = dock.noise.plot.curve.getData()
    np.testing.assert_allclose(variances, 2 * (signals - 100), rtol=0.25, atol=4)
    assert len(dock.noise.plot.calibrated.getData()[0]) == len(look.calibration.signals)
    file_dialog(tmp_path / "camera.npz")
    dock.noise.save_button.click()
    assert "Saved" in finish(dock)
    np.testing.assert_allclose(read_noise(tmp_path / "camera.npz").weight, look.fit.model.weight, rtol=1e-6)
    dock.advanced["max_steps"].value = 1
    dock.train_button.click()
    finish(dock)
    denoiser = MODELS.all[0].denoiser
    assert denoiser.model.noise.kind == "mixture"
    assert "mixture" in denoiser.provenance.settings.noise
    dock.noise.form["noise"].value = "file"
    dock.noise.form["noise_file"].value = tmp_path / "camera.npz"
    assert dock.train_button.isEnabled()
    dock.train_button.click()
    finish(dock)
    np.testing.assert_allclose(MODELS.all[1].denoiser.model.noise.weight, look.fit.model.weight, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "file", "words"),
    [
        ("calibration", None, "open a calibration"),
        ("file", None, "choose a noise model file"),
        ("file", "a.txt", "file"),
    ],
)
def test_what_the_noise_model_lacks_is_said(viewer, dock, rng, kind, file, words):
    viewer.add_image(noisy_image(rng))
    dock.noise.form["noise"].value = kind
    if file:
        dock.noise.form["noise_file"].value = file
    assert not dock.train_button.isEnabled()
    assert words in dock.train_button.text()


def test_calibration_that_does_not_fit_is_refused_and_the_next_look_works(viewer, dock, finish, rng):
    viewer.add_image(rng.normal(0, 1, (1, 64, 64)).cumsum(1).astype(np.float32), name="calibration")
    viewer.add_image(noisy_image(rng), name="cells")
    dock.noise.form["noise"].value = "calibration"
    dock.noise.look_button.click()
    said = finish(dock)
    assert "Expected a" in said
    assert errors_shown() == [said]
    dock.noise.form["noise"].value = "auto"
    dock.noise.look_button.click()
    assert "Measured" in finish(dock)
