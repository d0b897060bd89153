"""The correction of predicted standard deviations is a curve over the brightness."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from napari_direct_denoiser.std_calibration import Curve, StdCalibration


def test_a_curve_is_linear_between_knots_and_constant_beyond() -> None:
    curve = Curve((10.0, 20.0, 40.0), (1.0, 3.0, 2.0))
    found = curve(torch.tensor([-5.0, 10.0, 15.0, 20.0, 30.0, 99.0]))
    assert found.tolist() == [1.0, 1.0, 2.0, 3.0, 2.5, 2.0]


def test_the_factor_is_that_of_the_brightness() -> None:
    calibration = StdCalibration(signal=Curve((100.0, 200.0), (2.0, 1.0)))
    assert calibration.corrected(torch.tensor([3.0, 3.0]), torch.tensor([50.0, 150.0])).tolist() == [6.0, 4.5]
    assert StdCalibration().corrected(torch.tensor([3.0]), torch.tensor([50.0])) == 3.0


def test_it_survives_json() -> None:
    calibration = StdCalibration(signal=Curve((100.0, 200.0), (2.0, 1.0)), samples=1.2)
    assert StdCalibration.model_validate_json(calibration.model_dump_json()) == calibration


def test_equal_knots_give_numbers() -> None:
    found = Curve((10.0, 10.0, 20.0), (1.0, 3.0, 2.0))(torch.tensor([5.0, 10.0, 15.0, 25.0]))
    assert found.isfinite().all()
    assert found[-1] == 2.0


@pytest.mark.parametrize(
    "curve", [((), ()), ((1.0,), (1.0, 2.0)), ((2.0, 1.0), (1.0, 1.0)), ((1.0,), (-1.0,)), ((1.0,), (math.inf,))]
)
def test_what_is_no_curve_is_refused(curve: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    with pytest.raises(ValidationError, match=r"Expected|finite"):
        StdCalibration(signal=Curve(*curve))
