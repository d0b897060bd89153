"""The ONNX file does what the package does, on planes of any size, and says what it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from napari_direct_denoiser import Denoiser, SettingError, export_onnx
from napari_direct_denoiser.calibration import Curve
from napari_direct_denoiser.export import onnx_file
from napari_direct_denoiser.export.direct_pass import DirectPass, traced

SIZES = [(64, 64), (101, 77), (33, 250), (17, 40), (160, 96)]


def run(path: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Denoise planes (B, H, W)."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    result = session.run(["denoised"], {"noisy": image[:, None]})[0]
    assert result.dtype == np.float32
    return np.asarray(result[:, 0])


@pytest.mark.parametrize("name", ["poisson", "gaussian", "correlated", "published"])
def test_onnxruntime_agrees_with_the_package(
    tiny: Callable[[str], Denoiser], noisy: NDArray[np.float32], least_noise: float, tmp_path: Path, name: str
) -> None:
    denoiser = tiny(name)
    before = denoiser.sample(noisy[:32, :32], 1)
    assert (denoiser.model.noise.reach > 16) == (name == "correlated")
    export_onnx(denoiser, tmp_path / "m.onnx")
    for height, width in SIZES:
        image = noisy[:height, :width]
        expected = denoiser.denoise(image)
        assert np.abs(expected - image).max() > least_noise, "the network must do something"
        found = run(tmp_path / "m.onnx", np.stack([image, image[::-1]]))
        assert np.abs(found[0] - expected).max() < 1e-4 * least_noise
        assert np.abs(found[1] - denoiser.denoise(image[::-1])).max() < 1e-4 * least_noise
    np.testing.assert_array_equal(denoiser.sample(noisy[:32, :32], 1), before)  # the model stays as it is


def test_the_networks_of_quick_agree_too(
    quick: Denoiser,
    noisy: NDArray[np.float32],
    least_noise: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = noisy[:199, :133]
    plain = quick.denoise(image)
    bias = Curve((float(plain.mean()), float(plain.max())), (0.0, 5 * least_noise))
    monkeypatch.setattr(quick.model, "calibration", quick.model.calibration.model_copy(update={"direct": bias}))
    export_onnx(quick, tmp_path / "m.onnx")
    difference = run(tmp_path / "m.onnx", image[None])[0] - quick.denoise(image)
    assert np.abs(difference).max() < 1e-4 * least_noise
    assert np.abs(quick.denoise(image) - plain).max() > least_noise


def test_says_what_it_is(tiny: Callable[[str], Denoiser], tmp_path: Path) -> None:
    export_onnx(tiny("correlated"), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.producer_version[:2]) == ("napari-direct-denoiser", "0.")
    assert "gain 2 counts per electron" in model.doc_string
    assert "the mean of the clean images" in model.doc_string
    values = {entry.key: entry.value for entry in model.metadata_props}
    assert (values["axes"], values["dtype"], values["unit"], values["loss"]) == ("BCYX", "float32", "counts", "l2")
    assert model.opset_import[0].version == 17
    assert model.ir_version <= 8, "runtimes of 2023 read no newer one"
    for tensor in (*model.graph.input, *model.graph.output):
        sides = tensor.type.tensor_type.shape.dim
        assert [side.dim_param or side.dim_value for side in sides] == ["batch", 1, "height", "width"]
        assert tensor.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("name", ["correlated", "published"])
def test_the_trace_names_no_device(tiny: Callable[[str], Denoiser], name: str) -> None:
    """Or it would mix tensors of the CPU and of a GPU there."""
    assert "torch.device" not in traced(DirectPass(tiny(name).model)).code


def test_offsets_of_lines_are_refused(tiny: Callable[[str], Denoiser], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"row offsets of std 2 counts.*denoise with this package"):
        export_onnx(tiny("lines"), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["m.zip", "absent/m.onnx", "."])
def test_refuses_what_is_no_place_for_the_file(tiny: Callable[[str], Denoiser], tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError):
        export_onnx(tiny("poisson"), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_names_the_extra_that_is_missing(
    tiny: Callable[[str], Denoiser], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SettingError, match=r'onnx.*: pip install "napari-direct-denoiser\[export\]"'):
        export_onnx(tiny("poisson"), tmp_path / "m.onnx")


def test_a_failure_leaves_the_old_file(
    tiny: Callable[[str], Denoiser], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("broken")

    (tmp_path / "m.onnx").write_bytes(b"old")
    monkeypatch.setattr(onnx_file, "add_metadata", fail)
    with pytest.raises(ValueError, match="broken"):
        export_onnx(tiny("poisson"), tmp_path / "m.onnx")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
