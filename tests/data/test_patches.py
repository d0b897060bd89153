"""Patches: no pixel of the validation part is trained on, all positions and orientations occur."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_direct_denoiser.data.patches import Augmentation, Part, PatchSampler, split


def numbered(planes: int, height: int, width: int) -> np.ndarray:
    """A stack in which every pixel has a value of its own."""
    return np.arange(planes * height * width, dtype=np.float32).reshape(planes, height, width)


@pytest.mark.parametrize("shape", [(20, 64, 64), (39, 70, 64), (1, 300, 128), (3, 128, 500), (6, 130, 130)])
def test_split_sets_about_15_percent_aside_and_shares_no_pixel(shape: tuple[int, int, int]) -> None:
    pixels = [part.pixels() for (part,) in split([numbered(*shape)], 64)]
    training, validation = (set(part.flatten().tolist()) for part in pixels)
    assert not training & validation
    assert len(training) + len(validation) == np.prod(shape)
    assert min(side for part in pixels for side in part.shape[1:]) >= 64
    if max(shape[1:]) >= 300 or shape[0] >= 7:
        assert len(validation) / np.prod(shape) == pytest.approx(0.15, abs=0.07)


def test_an_image_of_one_patch_serves_for_both() -> None:
    (training,), (validation,) = split([numbered(1, 64, 64)], 64)
    np.testing.assert_array_equal(training.pixels(), validation.pixels())


def test_patches_occur_in_all_eight_orientations_and_at_every_position() -> None:
    stack = numbered(1, 5, 5)
    drawn = PatchSampler([stack], 4, seed=0).draw(400)[:, 0]
    corners = {tuple(p[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()) for p in drawn}
    assert len(corners) == 8 * 2 * 2
    flipped = PatchSampler([stack], 4, seed=0, augmentation=Augmentation(transpose=False)).draw(400)[:, 0]
    assert all(abs(float(p[0, 1] - p[0, 0])) == 1 for p in flipped)  # rows stay rows
    assert len({tuple(p[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()) for p in flipped}) == 4 * 2 * 2


def test_stacks_are_drawn_in_proportion_to_their_positions() -> None:
    small, large = np.zeros((1, 8, 8)), np.ones((3, 13, 13))
    drawn = PatchSampler([small, large], 4, seed=1).draw(4000)
    assert drawn.shape == (4000, 1, 4, 4)
    assert float(drawn.mean()) == pytest.approx(300 / 325, abs=0.02)


def test_same_seed_same_patches() -> None:
    stack = numbered(4, 16, 16)
    first, again, other = (PatchSampler([stack], 8, seed=s).draw(5) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_margin_is_the_plane_around_a_patch_and_no_more_of_it_is_read() -> None:
    plane = numbered(1, 40, 30)[0]
    read = []

    class Watched:
        shape = (1, 40, 30)

        def __len__(self) -> int:
            return 1

        def __getitem__(self, key: tuple[int, slice, slice]) -> np.ndarray:
            assert key[0] == 0
            read.append(plane[key[1:]].size)
            return plane[key[1:]]

    still = Augmentation(flip_y=False, flip_x=False, transpose=False)
    sampler = PatchSampler([Watched()], 8, seed=0, augmentation=still, margin=6)  # type: ignore[list-item]
    around = np.pad(plane, 6, mode="reflect")
    for patch in sampler.draw(100)[:, 0].numpy():
        y, x = divmod(int(patch[6, 6]), 30)
        np.testing.assert_array_equal(patch, around[y : y + 20, x : x + 20])
    assert max(read) <= 20 * 20


def test_a_draw_depends_on_its_number_alone_and_its_parts_make_the_whole() -> None:
    stack = numbered(4, 16, 16)
    sampler, again = (PatchSampler([stack], 8, seed=3) for _ in range(2))
    first, second = sampler.draw(8, 0), sampler.draw(8, 1)
    assert not torch.equal(first, second)
    assert torch.equal(again.draw(8, 1), second)
    assert torch.equal(torch.cat([again.draw(8, 1, (part, 4)) for part in range(4)]), second)


class Lazy:
    """Planes (30, 12, 12) of pixels with the number of the plane; it keeps those that were read last."""

    shape = (30, 12, 12)
    dtype = np.dtype(np.float32)
    cached_planes = 8

    def __init__(self) -> None:
        self.read: list[int] = []
        self.kept: list[int] = []

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: tuple[int, slice, slice]) -> np.ndarray:
        number = int(key[0])
        if number in self.kept:
            self.kept.remove(number)
        else:
            self.read.append(number)
        self.kept = [*self.kept, number][-self.cached_planes :]
        return np.full(self.shape[1:], number, np.float32)[key[1:]]


def test_planes_that_are_read_when_needed_are_read_once_for_many_patches() -> None:
    lazy, held = Lazy(), np.full((10, 12, 12), 99, np.float32)
    sampler = PatchSampler([lazy, held], 8, seed=0)  # type: ignore[list-item]
    drawn = torch.cat([sampler.draw(16, number)[:, 0, 0, 0] for number in range(30 * 64 // 16)]).numpy()
    assert len(lazy.read) <= 30 + 8  # once, and those of the first window again
    assert np.mean(drawn == 99) == pytest.approx(10 / 40, abs=0.03)
    counts = np.bincount(drawn[drawn != 99].astype(int), minlength=30)
    assert counts.min() > 0.3 * counts.mean()  # each plane is in the window for as long
    assert counts.max() < 2 * counts.mean()


def test_the_window_is_that_of_all_images_together() -> None:
    lazy = [Lazy() for _ in range(3)]
    sampler = PatchSampler([Part(each, np.arange(4), range(12), range(12)) for each in lazy], 8, seed=0)  # type: ignore[arg-type]
    drawn = sampler.draw(64)
    assert sum(len(set(each.read)) for each in lazy) <= 8 < 12
    assert drawn.shape == (64, 1, 8, 8)


def test_patches_begin_at_even_rows_and_are_only_turned_by_half_a_turn() -> None:
    stack = numbered(1, 41, 12)
    half_turns = Augmentation(transpose=False, half_turns=True)
    part = Part(stack, np.arange(1), range(7, 41), range(12))
    for patch in PatchSampler([part], 8, seed=0, augmentation=half_turns, row_period=2).draw(200)[:, 0].numpy():
        first = patch if patch[0, 0] < patch[-1, -1] else patch[::-1, ::-1]
        y, x = divmod(int(first[0, 0]), 12)
        assert y % 2 == 0
        assert y >= 6
        np.testing.assert_array_equal(first, stack[0, y : y + 8, x : x + 8])
