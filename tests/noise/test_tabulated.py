"""Mixtures and histograms are the densities they were made from, and so are their files; nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from napari_direct_denoiser.errors import ModelFileError, SettingError
from napari_direct_denoiser.noise import HistogramNoise, MixtureNoise, from_document, read_noise, write_npz

WEIGHT = np.array(
    [[0.1, 0.3], [-0.2, 0.1], [0.4, -0.5], [2.0, 5.0], [3.0, 4.0], [1.0, 6.0], [0.5, 0.0], [0.0, 0.7], [-0.3, 0.2]],
    dtype=np.float32,
)


def test_mixture_follows_the_published_layout(mixture_example: MixtureNoise) -> None:
    signal, noisy = 700.0, 730.0
    t = (signal - 200) / 1000
    mean = WEIGHT[:3] @ [1, t]
    variance = np.maximum(np.exp(WEIGHT[3:6]) @ [1, t], 4.0)
    weight = np.exp(WEIGHT[6:] @ [1, t])
    weight /= weight.sum()
    mean = mean - weight @ mean + signal
    expected = np.log(weight @ stats.norm.pdf(noisy, mean, np.sqrt(variance)))
    found = mixture_example.log_prob(torch.tensor([noisy]), torch.tensor([signal]))
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_mixture_goes_on_beyond_its_range(mixture_example: MixtureNoise) -> None:
    """Below, the shape of the noise stays; above, its variance goes on in a straight line."""
    low, end, near, far = mixture_example.variance(torch.tensor([200.0, 1200.0, 1201.0, 2200.0])).tolist()
    assert mixture_example.variance(torch.tensor([-500.0])).item() == low
    assert far - end == pytest.approx(1000 * (near - end), rel=0.05)
    assert far > end


def test_histogram_is_the_density_it_was_made_from(histogram_example: HistogramNoise) -> None:
    noisy, signal = torch.linspace(181, 221, 41), torch.full((41,), 201.0)
    expected = stats.norm.logpdf(noisy.numpy(), 201.0, 12.0)
    np.testing.assert_allclose(histogram_example.log_prob(noisy, signal).numpy(), expected, atol=0.15)
    assert histogram_example.signal_range == pytest.approx((81.0, 319.0))


def test_histogram_density_is_linear_in_the_signal_and_constant_in_a_bin(histogram_example: HistogramNoise) -> None:
    """But for the wide Gaussian, 1 % of it: so it is compared where the histogram has most of its mass."""

    def density(noisy: list[float], signal: list[float]) -> list[float]:
        given = torch.tensor(noisy, dtype=torch.float64), torch.tensor(signal, dtype=torch.float64)
        return [float(value) for value in histogram_example.log_prob(*given).exp()]

    low, middle, high = density([207.0] * 3, [201.0, 202.0, 203.0])  # bins are 2 counts wide
    assert middle == pytest.approx((low + high) / 2, rel=1e-4)
    assert abs(high - low) > 0.05 * low, "too flat: this tells nothing"
    near, far, other = density([206.01, 207.99, 208.01], [195.0] * 3)
    assert near == pytest.approx(far, rel=2e-3)
    assert other < 0.9 * near


def test_histogram_shifts_the_nearest_density_to_signals_without_data(histogram_example: HistogramNoise) -> None:
    drawn = histogram_example.sample(torch.full((50_000,), 41.0), torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(41.0, abs=1.0)
    assert float(histogram_example.variance(torch.tensor([41.0]))) == pytest.approx(144, rel=0.1)


def test_histogram_keeps_its_range_in_a_model_file(histogram_example: HistogramNoise) -> None:
    """The rows that are filled in are not saved: they would be taken for data."""
    again = from_document(histogram_example.document())
    assert again.signal_range == histogram_example.signal_range == pytest.approx((81.0, 319.0))


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
