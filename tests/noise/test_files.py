"""Files hold the noise models that were written, in the published layout or as JSON; nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.errors import ModelFileError, SettingError
from napari_direct_denoiser.noise import (
    CorrelatedNoise,
    GaussianNoise,
    HistogramNoise,
    MixtureNoise,
    NoiseModel,
    fit_images,
    fit_noise,
    from_document,
    read_noise,
    write_noise,
    write_npz,
)

WEIGHT = np.array(
    [[0.1, 0.3], [-0.2, 0.1], [0.4, -0.5], [2.0, 5.0], [3.0, 4.0], [1.0, 6.0], [0.5, 0.0], [0.0, 0.7], [-0.3, 0.2]],
    dtype=np.float32,
)


def published_likelihood(path: Path, noisy: float, signal: float) -> float:
    """The mixture as the published code computes it from a file: plain sums of Gaussians, one after the other."""
    with np.load(path) as file:
        weight, floor = file["trained_weight"], float(file["min_sigma"])
        low, high = float(file["min_signal"][0]), float(file["max_signal"][0])
    n, t = len(weight) // 3, (signal - low) / (high - low)
    powers = np.array([t**k for k in range(weight.shape[1])])
    means, parts = weight[:n] @ powers, np.exp(weight[2 * n :] @ powers)
    sigmas = np.sqrt(np.maximum(np.exp(weight[n : 2 * n]) @ powers, floor))
    parts /= parts.sum()
    means = means + signal - (parts * means).sum()
    return float((parts * np.exp(-((noisy - means) ** 2) / (2 * sigmas**2)) / np.sqrt(2 * np.pi * sigmas**2)).sum())


def test_what_is_written_is_what_the_published_code_reads(tmp_path: Path) -> None:
    model = MixtureNoise(torch.from_numpy(WEIGHT), 200.0, 1200.0, 4.0)
    write_npz(tmp_path / "m.npz", model)
    for signal, noisy in ((250.0, 240.0), (700.0, 730.0), (1190.0, 1200.0)):
        expected = published_likelihood(tmp_path / "m.npz", noisy, signal)
        found = model.log_prob(torch.tensor([noisy]), torch.tensor([signal])).exp()
        assert float(found) == pytest.approx(expected, rel=1e-3)
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["max_signal", "min_sigma", "min_signal", "trained_weight"]
    again = read_noise(tmp_path / "m.npz")
    noisy, signal = torch.linspace(100, 1300, 99), torch.linspace(0, 1500, 99)
    assert torch.equal(again.log_prob(noisy, signal), model.log_prob(noisy, signal))
    assert again.document() == model.document()
    assert [file.name for file in tmp_path.iterdir()] == ["m.npz"]


@pytest.mark.parametrize(("gaussians", "coefficients"), [(1, 2), (3, 2), (3, 3)])
def test_files_of_others_go_through_and_back(
    tmp_path: Path, rng: np.random.Generator, gaussians: int, coefficients: int
) -> None:
    """PPN2V, DivNoising and HDN save float32 arrays and a plain number; CAREamics reads the same files."""
    theirs = {
        "trained_weight": rng.normal(2, 1, (3 * gaussians, coefficients)).astype(np.float32),
        "min_signal": np.array([234.5], np.float32),
        "max_signal": np.array([3210.0], np.float32),
    }
    np.savez(tmp_path / "theirs.npz", **theirs, min_sigma=50)
    model = read_noise(tmp_path / "theirs.npz")
    for signal, noisy in ((240.0, 260.0), (1700.0, 1650.0), (3200.0, 3205.0)):
        density = float(model.log_prob(torch.tensor([noisy]), torch.tensor([signal])).exp())
        assert density == pytest.approx(published_likelihood(tmp_path / "theirs.npz", noisy, signal), rel=1e-3)
    write_noise(tmp_path / "ours.npz", model)
    with np.load(tmp_path / "ours.npz") as ours:
        for name, value in theirs.items():
            assert ours[name].dtype.kind == "f"
            np.testing.assert_array_equal(ours[name], value)  # of the same shape: they take [0] of the signals
        assert ours["min_sigma"].item() == 50


def test_numbers_may_be_scalars_or_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", trained_weight=WEIGHT, min_signal=200.0, max_signal=[[1200.0]], min_sigma=[4])
    assert read_noise(tmp_path / "a.npz").signal_range == (200.0, 1200.0)


def pn2v_histogram(bins: int = 32, low: float = 0.0, high: float = 320.0) -> NDArray[np.float64]:
    """Three planes as PN2V saves them: parts of 1 by (signal, noisy), lower edges, upper edges."""
    edges = np.linspace(low, high, bins + 1)
    planes = np.zeros((3, bins, bins))
    centres = (edges[:-1] + edges[1:]) / 2
    planes[0] = np.exp(-0.5 * ((centres[None] - centres[:, None]) / 20) ** 2)
    planes[0] /= planes[0].sum(1, keepdims=True)
    planes[1], planes[2] = edges[:-1, None], edges[1:, None]
    return planes


def test_reads_the_histogram_of_pn2v(tmp_path: Path) -> None:
    np.save(tmp_path / "h.npy", pn2v_histogram())
    model = read_noise(tmp_path / "h.npy")
    assert isinstance(model, HistogramNoise)
    assert (model.low, model.high, model.signal_range) == (0.0, 320.0, (5.0, 315.0))
    assert from_document(model.document()).document() == model.document()
    drawn = model.sample(torch.full((50_000,), 165.0), torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(165, abs=1)
    assert float(drawn.std()) == pytest.approx(20, rel=0.05)


def evil(path: Path) -> None:
    """An object that would run code if it were unpickled."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (path.with_name("run"),)

    array = np.array([Evil()], dtype=object)
    if path.suffix == ".npz":
        np.savez(path, trained_weight=array, min_signal=0, max_signal=1, min_sigma=1)
    else:
        np.save(path, array, allow_pickle=True)


@pytest.mark.parametrize("name", ["evil.npz", "evil.npy"])
def test_never_unpickles(tmp_path: Path, name: str) -> None:
    evil(tmp_path / name)
    with pytest.raises(ModelFileError, match="not a readable"):
        read_noise(tmp_path / name)
    assert not (tmp_path / "run").exists()


def test_refuses_what_is_no_noise_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=WEIGHT)
    with pytest.raises(ModelFileError, match=r"lacks trained_weight.*holds weights"):
        read_noise(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ModelFileError, match="not a readable"):
        read_noise(tmp_path / "text.npz")
    np.savez(tmp_path / "shape.npz", trained_weight=WEIGHT[:4], min_signal=0.0, max_signal=1.0, min_sigma=1.0)
    with pytest.raises(ModelFileError, match=r"shape \(4, 2\)"):
        read_noise(tmp_path / "shape.npz")
    np.save(tmp_path / "flat.npy", pn2v_histogram()[0])
    with pytest.raises(ModelFileError, match=r"\(3, bins, bins\)"):
        read_noise(tmp_path / "flat.npy")
    with pytest.raises(ModelFileError, match="No noise model file"):
        read_noise(tmp_path / "absent.npz")


def test_refuses_targets_that_cannot_be_written(tmp_path: Path) -> None:
    model = MixtureNoise(torch.from_numpy(WEIGHT), 200.0, 1200.0, 4.0)
    for target in (tmp_path / "m.txt", tmp_path / "absent" / "m.npz", tmp_path):
        with pytest.raises(SettingError):
            write_npz(target, model)
    assert not list(tmp_path.iterdir())


def test_json_holds_any_noise_model(tmp_path: Path, model: NoiseModel) -> None:
    write_noise(tmp_path / "noise.json", model)
    device = torch.get_default_device()
    with torch.device("cpu"):  # files are read there, and sent to a device later
        again = read_noise(tmp_path / "noise.json").to(device)
        named = fit_noise(str(tmp_path / "noise.json"), [Frames(np.zeros((1, 8, 8)))]).model
        signal = 200 + torch.rand((1, 16, 16), generator=torch.Generator().manual_seed(0)).to(device)
    assert again.document() == named.document() == model.document()
    assert torch.equal(again.log_prob(signal + 3, signal), model.log_prob(signal + 3, signal))
    assert [file.name for file in tmp_path.iterdir()] == ["noise.json"]


def test_json_is_as_documented(tmp_path: Path) -> None:
    write_noise(tmp_path / "noise.json", CorrelatedNoise(GaussianNoise(3.0), [[0.5, 0.0, 0.0]]))
    assert json.loads((tmp_path / "noise.json").read_text()) == {
        "format": "napari-direct-denoiser noise model",
        "version": 1,
        "noise": {
            "kind": "correlated",
            "innovation": {"kind": "gaussian", "sigma": 3.0},
            "coefficients": [[0.5, 0.0, 0.0]],
        },
    }


def test_npz_is_refused_for_what_it_cannot_hold(tmp_path: Path) -> None:
    correlated = CorrelatedNoise(MixtureNoise(torch.from_numpy(WEIGHT), 200.0, 1200.0, 4.0), [[0.5, 0.0, 0.0]])
    for model in (correlated, GaussianNoise(3.0)):
        with pytest.raises(SettingError, match=r"\.npz files cannot hold: write it to a \.json file"):
            write_noise(tmp_path / "noise.npz", model)
    assert not list(tmp_path.iterdir())


def test_npz_of_a_fit_is_a_mixture(tmp_path: Path) -> None:
    fit = fit_images([Frames(simulate(planes=4, size=128, photons=30.0).noisy)])
    write_noise(tmp_path / "noise.npz", fit)
    signal = torch.linspace(*fit.signal_range, 12)
    again = read_noise(tmp_path / "noise.npz")
    torch.testing.assert_close(again.variance(signal), fit.model.variance(signal), rtol=0.15, atol=1.0)


def document(noise: Any, **changes: Any) -> str:
    return json.dumps({"format": "napari-direct-denoiser noise model", "version": 1, "noise": noise, **changes})


def correlated(coefficients: Any, innovation: Any = None) -> str:
    innovation = innovation or {"kind": "gaussian", "sigma": 3.0}
    return document({"kind": "correlated", "innovation": innovation, "coefficients": coefficients})


GAUSSIAN = {"kind": "gaussian", "sigma": 3.0}
NESTED = '{"kind":"correlated","coefficients":[[0.1,0,0]],"innovation":' * 900 + "1" + "}" * 900
MIXTURE = {"kind": "mixture", "trained_weight": [[1], [1, 2], []], "min_signal": 0, "max_signal": 1, "min_sigma": 1}
DAMAGED = {
    "other JSON": ("[1, 2]", "is JSON without"),
    "another format": (document(GAUSSIAN, format="model"), "is JSON without"),
    "newer": (document(GAUSSIAN, version=2), "found version 2 .*update napari-direct-denoiser"),
    "version that is no number": (document(GAUSSIAN, version="1"), "found version '1'"),
    "cut short": (document(GAUSSIAN)[:-5], "not a readable"),
    "no text": ("\udcff", "not a readable"),
    "deep": ("[" * 200_000, "nested too deeply"),
    "deep noise": (document(None).replace("null", NESTED), "noise.json"),
    "unknown kind": (document({"kind": "cauchy"}), "found 'cauchy'"),
    "kind that is a list": (document({"kind": []}), "value of the wrong kind"),
    "no noise": (document(None), "value of the wrong kind"),
    "other parameters": (document({"kind": "gaussian", "width": 3.0}), "other parameters"),
    "word for a number": (document({"kind": "gaussian", "sigma": "wide"}), "noise.json"),
    "NaN": (document({"kind": "gaussian", "sigma": float("nan")}), "found nan"),
    "infinity": (document(GAUSSIAN).replace("3.0", "1e999"), "positive number"),
    "unstable": (correlated([[1.1, 0, 0]]), "not stable"),
    "later pixels": (
        correlated([[0, 0, 0.3]]),
        "and 0 for",
    ),
    "even shape": (
        correlated([[0.1, 0]]),
        r"shape \(1, 2\)",
    ),
    "ragged": (correlated([[0.1, 0, 0], [0.1]]), "shape"),
    "innovation that is none": (
        correlated([[0.1, 0, 0]], "x"),
        "noise",
    ),
    "ragged mixture": (document(MIXTURE), "wrong kind"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_refuses_json_that_is_no_noise_model(tmp_path: Path, case: str) -> None:
    content, words = DAMAGED[case]
    (tmp_path / "noise.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelFileError, match=words):
        read_noise(tmp_path / "noise.json")


def test_refuses_a_json_file_that_is_too_large_before_it_is_parsed(tmp_path: Path) -> None:
    with open(tmp_path / "large.json", "wb") as stream:
        stream.truncate(65 * 2**20)
    with pytest.raises(ModelFileError, match="longer than 8 MB"):
        read_noise(tmp_path / "large.json")
