"""Tiles cover a plane, share it out fairly, and see it as the whole plane would."""

from __future__ import annotations

import numpy as np
import pytest

from napari_direct_denoiser.prediction.tiling import tiles

SHAPES = [(1, 1), (3, 70), (64, 64), (65, 129), (100, 31), (257, 190)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile", [5, 32, 48, 1000])
@pytest.mark.parametrize("blend", [0, 8, 16, 32])
def test_shares_of_every_pixel_add_up_to_one(shape: tuple[int, int], tile: int, blend: int) -> None:
    total, hits = np.zeros(shape), np.zeros(shape, int)
    for each in tiles(shape, tile=tile, halo=16, multiple=8, blend=blend):
        weights = each.weights
        assert weights.min() >= 0
        total[each.kept] += weights
        hits[each.kept] += 1
    np.testing.assert_allclose(total, 1, atol=1e-6)
    if blend == 0:
        np.testing.assert_array_equal(hits, 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("blend", [0, 16])
def test_windows_lie_on_the_grid_and_hold_the_context(shape: tuple[int, int], blend: int) -> None:
    height, width = -(-shape[0] // 8) * 8, -(-shape[1] // 8) * 8
    for each in tiles(shape, tile=40, halo=16, multiple=8, blend=blend):
        for span, side, length in ((each.rows, shape[0], height), (each.columns, shape[1], width)):
            assert span.start % 8 == 0
            assert span.stop % 8 == 0
            assert 0 <= span.start <= span.low < span.high <= min(side, span.stop)
            assert span.stop <= length
            assert span.stop - span.start <= 40 + 2 * 16
            assert span.start == 0 or span.low - span.start >= 16 - blend // 2
            assert span.stop == length or span.stop - span.high >= 16 - blend // 2


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
