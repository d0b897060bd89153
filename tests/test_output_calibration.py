"""The corrections of the direct prediction and of standard deviations are curves over the brightness."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from napari_direct_denoiser.calibration import Calibration, Curve


def test_a_curve_is_linear_between_knots_and_constant_beyond() -> None:
    curve = Curve((10.0, 20.0, 40.0), (1.0, 3.0, 2.0))
    found = curve(torch.tensor([-5.0, 10.0, 15.0, 20.0, 30.0, 99.0]))
    assert found.tolist() == [1.0, 1.0, 2.0, 3.0, 2.5, 2.0]


def test_the_factor_is_that_of_the_brightness() -> None:
    calibration = Calibration(signal=Curve((100.0, 200.0), (2.0, 1.0)))
    assert calibration.corrected(torch.tensor([3.0, 3.0]), torch.tensor([50.0, 150.0])).tolist() == [6.0, 4.5]
    assert Calibration().corrected(torch.tensor([3.0]), torch.tensor([50.0])) == 3.0


def test_the_direct_prediction_is_made_unbiased() -> None:
    calibration = Calibration(direct=Curve((100.0, 200.0), (2.0, -1.0)))
    assert calibration.unbiased(torch.tensor([50.0, 150.0, 300.0])).tolist() == [52.0, 150.5, 299.0]
    direct = torch.tensor([50.0])
    assert Calibration().unbiased(direct) is direct


def test_it_survives_json() -> None:
    signal, samples = Curve((100.0, 200.0), (2.0, 1.0)), Curve((1.0, 2.0), (0.9, 1.2))
    calibration = Calibration(direct=Curve((1.0, 3.0), (-0.5, 0.5)), signal=signal, samples=samples)
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration


def test_the_factor_of_samples_is_undone() -> None:
    calibration = Calibration(samples=Curve((100.0, 200.0), (2.0, 1.0)))
    std, mean = torch.tensor([3.0, 3.0]), torch.tensor([50.0, 150.0])
    corrected = calibration.of_samples(std, mean, 1_000_000)
    assert corrected.tolist() == pytest.approx([6.0, 4.5])
    for count in (1, 2, 1_000_000):
        corrected = calibration.of_samples(std, mean, count)
        assert calibration.undone(corrected, mean, count).tolist() == pytest.approx(std.tolist())
    assert Calibration(samples=Curve((0.0,), (0.0,))).undone(torch.zeros(2), mean, 3).tolist() == [0, 0]
    assert torch.equal(Calibration().of_samples(std, mean, 3), std)  # as that of the samples themselves


@pytest.mark.parametrize("count", [2, 5, 20])
def test_the_std_is_that_of_the_error_of_the_mean_of_so_many_samples(count: int) -> None:
    """Samples of deviation 3 about a mean whose error has deviation 1.5."""
    generator = torch.Generator().manual_seed(0)
    error = 1.5 * torch.randn(50_000, generator=generator)
    samples = 100 + error + 3 * torch.randn(count, 50_000, generator=generator)
    std, mean = torch.std_mean(samples, 0, correction=0)
    found = Calibration(samples=Curve((0.0,), (0.5,))).of_samples(std, mean, count)
    assert float(found.square().mean()) == pytest.approx(float((mean - 100).square().mean()), rel=0.02)


def test_a_file_with_one_factor_of_samples_is_read() -> None:
    found = Calibration.model_validate_json('{"signal": [[1.0], [2.0]], "samples": 1.2}')
    assert found.samples(torch.tensor([-5.0, 5.0])).tolist() == pytest.approx([1.2, 1.2])
    for bad in ("-1.0", '"much"', "NaN"):
        with pytest.raises(ValidationError):
            Calibration.model_validate_json(f'{{"samples": {bad}}}')


def test_equal_knots_give_numbers() -> None:
    found = Curve((10.0, 10.0, 20.0), (1.0, 3.0, 2.0))(torch.tensor([5.0, 10.0, 15.0, 25.0]))
    assert found.isfinite().all()
    assert found[-1] == 2.0


@pytest.mark.parametrize(
    "curve", [((), ()), ((1.0,), (1.0, 2.0)), ((2.0, 1.0), (1.0, 1.0)), ((1.0,), (-1.0,)), ((1.0,), (math.inf,))]
)
def test_what_is_no_curve_is_refused(curve: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    with pytest.raises(ValidationError, match=r"Expected|finite"):
        Calibration(signal=Curve(*curve))
    if curve != ((1.0,), (-1.0,)):  # what is added may be negative
        with pytest.raises(ValidationError, match=r"Expected|finite"):
            Calibration(direct=Curve(*curve))
