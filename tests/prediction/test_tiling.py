"""Tiles cover a plane, share it out fairly, and see it as the whole plane would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_direct_denoiser.prediction.tiling import tiles

SHAPES = [(1, 1), (3, 70), (64, 64), (65, 129), (100, 31), (257, 190)]


@st.composite
def cuts(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `tiles` for any plane and any network."""
    multiple = draw(st.sampled_from([1, 2, 4, 8, 16]))
    halo = draw(st.integers(0, 24))
    return {
        "shape": draw(st.tuples(st.integers(1, 90), st.integers(1, 90))),
        "tile": draw(st.integers(1, 100)),
        "halo": halo,
        "multiple": multiple,
        "blend": draw(st.integers(0, 2 * halo)),
    }


@settings(deadline=None)
@given(cuts())
def test_shares_of_every_pixel_add_up_to_one(cut: dict[str, Any]) -> None:
    total, hits = np.zeros(cut["shape"]), np.zeros(cut["shape"], int)
    for each in tiles(**cut):
        assert each.weights.min() >= 0
        total[each.kept] += each.weights
        hits[each.kept] += 1
    np.testing.assert_allclose(total, 1, atol=1e-6)
    if cut["blend"] < 2:
        np.testing.assert_array_equal(hits, 1)


@settings(deadline=None)
@given(cuts())
def test_windows_lie_on_the_grid_and_hold_the_context(cut: dict[str, Any]) -> None:
    multiple, halo, half = cut["multiple"], cut["halo"], cut["blend"] // 2
    for each in tiles(**cut):
        for span, side in zip((each.rows, each.columns), cut["shape"], strict=True):
            length = -(-side // multiple) * multiple
            assert span.start % multiple == 0
            assert span.stop % multiple == 0
            assert 0 <= span.start <= span.low < span.high <= min(side, span.stop)
            assert span.stop <= length
            assert span.stop - span.start <= max(cut["tile"], multiple) + 2 * (-(-halo // multiple) * multiple)
            assert span.start == 0 or span.low - span.start >= halo - half
            assert span.stop == length or span.stop - span.high >= halo - half


@settings(deadline=None)
@given(cuts(), st.integers(0, 2**32))
def test_every_tile_is_cut_from_and_returned_to_its_place(cut: dict[str, Any], seed: int) -> None:
    plane = np.random.default_rng(seed).integers(0, 2**16, cut["shape"]).astype(np.uint16)
    blended = np.zeros(cut["shape"])
    for each in tiles(**cut):
        window = each.cut(plane)
        assert window.shape == each.window_shape
        blended[each.kept] += each.weights * window[each.inner]
    np.testing.assert_allclose(blended, plane, rtol=1e-6)


def test_a_plane_within_the_limit_is_one_tile_without_halo() -> None:
    (only,) = tiles((61, 64), tile=64, halo=16, multiple=8, blend=16)
    assert only.window_shape == (64, 64)
    assert (only.weights == 1).all()
    assert only.weights.shape == (61, 64)


def test_blending_is_linear_across_the_seam() -> None:
    left, right = tiles((8, 64), tile=32, halo=16, multiple=8, blend=16)
    shares = right.columns.weights[:16]
    np.testing.assert_allclose(np.diff(shares), 1 / 16, rtol=1e-5)
    assert (right.columns.low, left.columns.high) == (24, 40)


@pytest.mark.parametrize("shape", SHAPES)
def test_cut_pads_by_reflection(shape: tuple[int, int]) -> None:
    plane = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    whole = np.pad(plane, [(0, -side % 8) for side in shape], mode="reflect")
    for each in tiles(shape, tile=24, halo=8, multiple=8):
        window = each.cut(plane)
        assert window.dtype == np.float32
        assert window.shape == each.window_shape
        columns, rows = each.columns, each.rows
        np.testing.assert_array_equal(window, whole[rows.start : rows.stop, columns.start : columns.stop])
        np.testing.assert_array_equal(window[each.inner], plane[each.kept])
