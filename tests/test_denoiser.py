"""The whole way from noisy images to a saved model and denoised images, through the public interface."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_direct_denoiser import Denoiser, TrainSettings, load, train
from napari_direct_denoiser.calibration import Calibration, Curve
from napari_direct_denoiser.checkpoint import load_checkpoint, save_checkpoint
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import HDNConfig, ModelConfig, UNetConfig
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.errors import ImageError, ModelFileError, SettingError, TrainingError
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.prediction import tiling
from napari_direct_denoiser.progress import drain
from napari_direct_denoiser.system import Compute
from napari_direct_denoiser.training import course
from napari_direct_denoiser.training.validation import Validator

pytestmark = pytest.mark.usefixtures("small_networks")
PACKAGE = "napari-direct-denoiser"


@pytest.fixture(scope="module")
def noisy() -> NDArray[np.uint16]:
    return simulate(planes=3, size=96, seed=1).noisy


@pytest.fixture(scope="module")
def trained(noisy: NDArray[np.uint16]) -> Denoiser:
    return train(noisy, max_steps=3, device="cpu")


@pytest.fixture(scope="module")
def tiny(trained: Denoiser, noisy: NDArray[np.uint16]) -> Denoiser:
    """A model that is loaded in no time: the networks are tiny, all else is that of the trained one."""
    config = ModelConfig(
        hdn=HDNConfig(filters=(4, 4), latent_channels=2, blocks=1, space_to_depth=2, gated=False),
        direct=UNetConfig(filters=(8, 8), blocks=1, space_to_depth=2, published=False, std=True),
        units="noise",
    )
    noise = trained.model.noise
    model = CoModel.initialized(config, noise, Normalization.of([noisy], config.units, noise), 0).eval()
    return Denoiser(model, trained.provenance)


@pytest.mark.parametrize("what", ["validation", "calibration"])
def test_no_memory_between_two_steps_is_an_error_that_keeps_the_weights_so_far(
    tiny: Denoiser, noisy: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place, name = {"validation": (Validator, "validate"), "calibration": (course, "calibrate")}[what]

    def cramped(*args: Any, **options: Any) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    denoiser = tiny.continued(noisy, max_steps=12)
    steps = denoiser.train_steps()
    next(steps)
    monkeypatch.setattr(place, name, cramped)
    with pytest.raises(TrainingError, match=r"Out of memory when the weights were judged, after \d+ steps: close"):
        drain(steps)
    assert np.isfinite(denoiser.denoise(noisy[0])).all()


@pytest.mark.parametrize(
    ("dtype", "memory_format", "rounding"),  # as they come together, see `resolve`; bfloat16 has 8 bits
    [(torch.float32, torch.contiguous_format, 1e-3), (torch.bfloat16, torch.channels_last, 5e-3)],
)
def test_the_direct_pass_in_tiles_equals_that_of_the_whole_plane(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, memory_format: torch.memory_format, rounding: float
) -> None:
    plane = simulate(planes=1, size=384, seed=3).noisy[0]
    shipped = Denoiser.for_images(plane, TrainSettings(preset="balanced", device="cpu"))
    monkeypatch.setattr(shipped.model, "compute", Compute(torch.device("cpu"), dtype, memory_format))
    whole = shipped.denoise(plane)
    monkeypatch.setattr(tiling, "DIRECT_TILE", 128)
    tiled = shipped.denoise(plane)
    assert np.abs(tiled - whole).max() < rounding * np.ptp(whole)
    assert not np.array_equal(tiled, whole)  # or it was not cut at all


def test_a_loaded_model_predicts_bit_for_bit_what_the_saved_one_did(
    trained: Denoiser, noisy: NDArray[np.uint16], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    trained.save(path)
    loaded = load(path, device="cpu")
    assert np.array_equal(loaded.denoise(noisy), trained.denoise(noisy))
    assert np.array_equal(loaded.std(noisy), trained.std(noisy))
    assert np.array_equal(loaded.sample(noisy[0], 3, seed=5), trained.sample(noisy[0], 3, seed=5))
    assert loaded.provenance == trained.provenance
    assert loaded.summary() == trained.summary()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("shape", [(96, 96), (2, 96, 96), (2, 3, 70, 65)])
def test_results_have_the_shape_of_the_input_and_are_float32(trained: Denoiser, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(150, 20, shape)
    assert trained.denoise(image).shape == shape
    assert trained.posterior_median(image, 2).shape == shape
    assert trained.std(image, 2).shape == shape
    assert trained.std(image).shape == shape
    drawn = trained.sample(image, 2)
    assert drawn.shape == (2, *shape)
    assert drawn.dtype == np.float32


def test_axes_in_another_order_give_the_same_planes(trained: Denoiser, noisy: NDArray[np.uint16]) -> None:
    moved = np.moveaxis(noisy, 0, -1)  # YXT
    steps = trained.denoise_steps(moved, ["direct"], axes="YXT")
    found = drain(steps)["direct"]
    np.testing.assert_array_equal(np.moveaxis(found, -1, 0), trained.denoise(noisy))


def test_several_images_of_different_sizes_train_one_model() -> None:
    images = [simulate(planes=2, size=size, seed=size).noisy for size in (64, 80)]
    denoiser = train(images, max_steps=2, device="cpu")
    assert denoiser.denoise(images[1]).shape == images[1].shape


def test_median_is_not_the_mean(trained: Denoiser, noisy: NDArray[np.uint16]) -> None:
    median, mean = trained.posterior_median(noisy[0], 5), trained.posterior_mean(noisy[0], 5)
    drawn = trained.sample(noisy[0], 5)
    spread, middle = (torch.from_numpy(each) for each in (drawn.std(0), drawn.mean(0)))
    calibrated = trained.model.calibration.of_samples(spread, middle, 5).numpy()
    np.testing.assert_allclose(trained.std(noisy[0], 5), calibrated, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(median, np.median(drawn, axis=0), rtol=1e-5)
    np.testing.assert_allclose(mean, drawn.mean(0), rtol=1e-5)
    assert not np.array_equal(median, mean)


def test_old_names_go_on_working(trained: Denoiser, noisy: NDArray[np.uint16]) -> None:
    for how, now in (("mean", trained.posterior_mean), ("median", trained.posterior_median)):
        with pytest.warns(DeprecationWarning, match=f"now posterior_{how}"):
            np.testing.assert_array_equal(trained.consensus(noisy[0], 2, how), now(noisy[0], 2))
    with pytest.warns(DeprecationWarning, match='now "sample_std"'):
        found = drain(trained.denoise_steps(noisy[0], ["deviation", "mean"], samples=2))
    assert set(found) == {"deviation", "mean"}
    np.testing.assert_array_equal(found["deviation"], trained.std(noisy[0], 2))


def test_axes_may_be_given_to_every_method(trained: Denoiser, noisy: NDArray[np.uint16]) -> None:
    moved = np.moveaxis(noisy, 0, -1)
    np.testing.assert_array_equal(np.moveaxis(trained.denoise(moved, axes="YXT"), -1, 0), trained.denoise(noisy))
    for method in (trained.sample, trained.posterior_mean, trained.posterior_median, trained.std):
        found = method(moved, 2, seed=1, axes="yxt")
        np.testing.assert_array_equal(np.moveaxis(found, -1, -3), method(noisy, 2, seed=1))
    with pytest.warns(DeprecationWarning, match="posterior_mean"):
        assert trained.consensus(moved, 2, axes="YXT").shape == moved.shape
    with pytest.raises(ImageError, match="'TZ'"):
        trained.denoise(noisy, axes="TZ")
    lazy = trained.denoise(da.from_array(moved), axes="YXT")
    np.testing.assert_array_equal(np.moveaxis(lazy.compute(), -1, 0), trained.denoise(noisy))


def test_a_channel_is_trained_and_denoised_like_an_image_of_its_own(noisy: NDArray[np.uint16]) -> None:
    both = np.stack([noisy + 300, noisy], axis=1)  # T C Y X
    with pytest.raises(ImageError, match=r"found 2 channels.*channel=0"):
        train(both, axes="TCYX", max_steps=1)
    model = train(both, axes="TCYX", channel=1, max_steps=1, device="cpu")
    alone = train(noisy, max_steps=1, device="cpu")
    assert model.provenance.axes == "TYX"
    expected = alone.denoise(noisy)
    np.testing.assert_array_equal(model.denoise(noisy), expected)
    np.testing.assert_array_equal(model.denoise(both, axes="TCYX", channel=1), expected)
    np.testing.assert_array_equal(model.denoise(da.from_array(both), axes="TCYX", channel=1), expected)
    with pytest.raises(ImageError, match="found 2 channels"):
        model.denoise(both, axes="TCYX")
    assert model.continued(both, "TCYX", channel=0, max_steps=1, device="cpu").provenance.axes == "TYX"


def test_numbers_beyond_float32_are_refused(trained: Denoiser, noisy: NDArray[np.uint16]) -> None:
    hot = noisy.astype(np.float64)
    hot[2, 5, 6] = 1e39
    for use in (trained.denoise, lambda image: trained.denoise(da.from_array(image, chunks=(1, -1, -1))).compute()):
        with pytest.raises(ImageError, match=r"1e\+39 in image at T=2, Y=5, X=6"):
            use(hot)


def test_unknown_provenance_is_kept_and_ignored(trained: Denoiser, noisy: NDArray[np.uint16], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    trained.save(path)
    tensors, document = load_checkpoint(path)
    document["provenance"] |= {"version": "99.1", "camera": {"serial": [1, 2]}}
    document["provenance"]["settings"]["teacher"] = "divnoising"
    document["provenance"]["history"][0]["psnr"] = 30.5
    save_checkpoint(path, tensors, document)
    model = load(path, device="cpu")
    np.testing.assert_array_equal(model.denoise(noisy), trained.denoise(noisy))
    model.save(path)
    assert load_checkpoint(path)[1] == document
    further = model.continued(noisy, max_steps=1, device="cpu")
    for _ in further.train_steps():
        pass
    further.save(path)
    kept = load_checkpoint(path)[1]["provenance"]
    assert (kept["camera"], kept["settings"]["teacher"]) == ({"serial": [1, 2]}, "divnoising")


def test_a_file_of_version_0_1_predicts_the_same(trained: Denoiser, noisy: NDArray[np.uint16], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    trained.save(path)
    tensors, document = load_checkpoint(path)
    document["scaling"]["deviation"] = document["scaling"].pop("std")
    for record in document["provenance"]["history"]:
        record["elbo"], record["validation_elbo"] = record.pop("neg_elbo"), record.pop("validation_neg_elbo")
    save_checkpoint(path, tensors, document)
    model = load(path, device="cpu")
    np.testing.assert_array_equal(model.denoise(noisy), trained.denoise(noisy))
    assert model.provenance == trained.provenance


def test_a_file_without_the_second_head_predicts_the_same_and_its_std_is_that_of_samples(
    trained: Denoiser, noisy: NDArray[np.uint16], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    trained.save(path)
    tensors, document = load_checkpoint(path)
    head = {name for name in tensors if ".std_head." in name}
    del document["config"]["direct"]["std"], document["calibration"]
    save_checkpoint(path, {name: value for name, value in tensors.items() if name not in head}, document)
    model = load(path, device="cpu")
    assert head
    np.testing.assert_array_equal(model.denoise(noisy), trained.denoise(noisy))
    assert not model.model.has_std
    np.testing.assert_allclose(model.std(noisy[0]), trained.sample(noisy[0], 50).std(0), rtol=1e-3, atol=1e-3)


def test_the_calibration_of_the_std_is_saved_with_the_model(
    trained: Denoiser, noisy: NDArray[np.uint16], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    trained.save(path)
    model = load(path, device="cpu")
    model.model.calibration = Calibration()
    predicted = model.std(noisy)
    model.model.calibration = Calibration(signal=Curve((0.0,), (2.0,)))
    model.save(path)
    np.testing.assert_array_equal(load(path, device="cpu").std(noisy), 2 * predicted)


def test_a_model_of_a_newer_version_that_cannot_be_read_names_both(trained: Denoiser, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    trained.save(path)
    tensors, document = load_checkpoint(path)
    document["config"]["transformer"] = True
    save_checkpoint(path, tensors, document)
    with pytest.raises(ModelFileError, match=r"transformer.*train again"):
        load(path)
    document["provenance"]["version"] = "99.1"
    save_checkpoint(path, tensors, document)
    with pytest.raises(ModelFileError, match=rf"version 99\.1.*version {re.escape(version(PACKAGE))}.*upgrade"):
        load(path)


def changed(document: Any) -> Iterator[Any]:
    """Copies of a document, each with one part missing or of another kind."""
    if isinstance(document, dict):
        for name, part in document.items():
            yield {other: value for other, value in document.items() if other != name}
            yield from ({**document, name: other} for other in changed(part))
    for other in (None, "text", [3], -1e9):
        if other != document:
            yield other


@pytest.mark.parametrize("part", ["config", "scaling", "noise", "provenance"])
def test_every_malformed_description_is_said_in_words(tiny: Denoiser, tmp_path: Path, part: str) -> None:
    path = tmp_path / "model.safetensors"
    tiny.save(path)
    tensors, document = load_checkpoint(path)
    document["provenance"]["history"] = document["provenance"]["history"][:1]
    refused = 0
    for other in changed(document[part]):
        save_checkpoint(path, tensors, {**document, part: other})
        try:
            load(path, device="cpu")
        except ModelFileError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017 (some of these can be loaded)
    assert refused > 5
    save_checkpoint(path, tensors, {name: value for name, value in document.items() if name != part})
    with pytest.raises(ModelFileError, match=f"lacks '{part}'"):
        load(path)


def bad_images() -> dict[str, tuple[NDArray, str]]:
    good = np.random.default_rng(0).normal(100, 10, (2, 80, 80))
    hole = good.copy()
    hole[1, 3, 4] = np.nan
    return {
        "nan": (hole, "1 NaN or infinite"),
        "constant": (np.full((80, 80), 7.0), "contrast"),
        "rgb": (np.zeros((80, 80, 3), np.uint8), "RGB"),
        "bool": (good > 100, "bool"),
        "complex": (good.astype(complex), "complex"),
        "small": (good[:, :40], "at least 64 x 64"),
        "empty": (good[:0], "empty"),
        "line": (good[0, 0], "axes"),
    }


@pytest.mark.parametrize("kind", sorted(bad_images()))
def test_bad_images_are_refused_before_any_work(kind: str) -> None:
    image, words = bad_images()[kind]
    with pytest.raises(ImageError, match=words):
        Denoiser.for_images(image, TrainSettings(device="cpu"))


def test_bad_settings_are_refused() -> None:
    image = np.random.default_rng(0).normal(100, 10, (80, 80))
    with pytest.raises(SettingError, match=r"max_steps.*found 0"):
        train(image, max_steps=0)
    with pytest.raises(SettingError, match="found 'cauchy:1'"):
        train(image, noise="cauchy:1")
    with pytest.raises(ModelFileError, match="No noise model file"):
        train(image, noise="missing.npz")
    with pytest.raises(ImageError, match="axes"):
        train(image, axes="TYX")


def test_importing_the_package_loads_no_torch() -> None:
    script = "import sys, napari_direct_denoiser; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
