"""Denoised images in the dtype of the noisy one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_direct_denoiser.data.dtypes import Converting, to_dtype

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@pytest.mark.parametrize("name", INTEGERS)
@settings(max_examples=25)
@given(image=arrays(np.float32, 9, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_integers_are_rounded_and_clipped_never_wrapped(name: str, image: np.ndarray) -> None:
    converted, clipped = to_dtype(image, name)
    limits = np.iinfo(name)
    assert converted.dtype == name
    wanted = [min(max(round(float(value)), limits.min), limits.max) for value in image]
    # float32 has no integer between the highest of these and the limit itself
    step = 2 ** max(limits.bits - 24, 0)
    assert all(
        abs(int(got) - want) <= (step if want == limits.max else 0) for got, want in zip(converted, wanted, strict=True)
    )
    assert clipped == sum(not limits.min <= round(float(value)) <= limits.max for value in image)


def test_numbers_at_the_edge_are_not_clipped() -> None:
    converted, clipped = to_dtype([-0.4, 0.5, 1.5, 255.4], "uint8")
    assert converted.tolist() == [0, 0, 2, 255]
    assert clipped == 0


def test_floats_stay_floats() -> None:
    image = np.array([-0.4, 1e6, 3.25], np.float32)
    for name in ("float32", "float64", ">f4", "longdouble"):
        converted, clipped = to_dtype(image, name)
        assert converted.dtype == np.dtype(name).newbyteorder("=")
        assert converted.tolist() == image.tolist()
        assert clipped == 0
    half, clipped = to_dtype(image, "float16")
    assert half.tolist() == [np.float16(-0.4), np.finfo("float16").max, 3.25]
    assert clipped == 1


def test_big_endian_becomes_native() -> None:
    converted, _ = to_dtype([1.0, 300.0], ">u2")
    assert converted.dtype.isnative
    assert converted.tolist() == [1, 300]


def test_parts_are_converted_as_they_come() -> None:
    target = Converting(np.zeros((2, 4, 4), np.uint8))
    for number, value in enumerate((-3.0, 7.6)):
        target[number] = np.full((4, 4), value, np.float32)
    assert [np.unique(plane).tolist() for plane in target.array] == [[0], [8]]
    assert target.clipped == 16
    assert target.shape == (2, 4, 4)
