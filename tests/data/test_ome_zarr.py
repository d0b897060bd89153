"""OME-Zarr images that are written block by block: valid, whole, and the same bytes however often killed."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models.v04.image import ImageAttrs as Attributes04
from ome_zarr_models.v05.image import Image as Image05

from napari_direct_denoiser.data.ome_metadata import read_multiscale
from napari_direct_denoiser.data.ome_zarr import ZarrImage

SHAPE, BLOCK = (3, 700, 1100), (512, 512)
PLACE = {"scale": (2.0, 0.5, 0.25), "translation": (0.0, 10.0, -3.0), "units": ("second", "micrometer", None)}


def blocks(shape: tuple[int, ...], axes: str, block: tuple[int, int]) -> Iterator[tuple[slice, ...]]:
    sides = [dict(zip("YX", block, strict=True)).get(axis, 1) for axis in axes]
    for at in product(*(range(0, full, side) for full, side in zip(shape, sides, strict=True))):
        yield tuple(slice(begin, begin + side) for begin, side in zip(at, sides, strict=True))


def fill(image: ZarrImage, pixels: np.ndarray, block: tuple[int, int]) -> None:
    for region in blocks(image.shape, image.axes, block):
        if not image.is_done(region):
            image[region] = pixels[region]
            assert image.is_done(region)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("block", [BLOCK, SHAPE[1:]], ids=["tiles", "planes"])
def test_an_image_is_written_with_a_pyramid_and_valid_metadata(
    tmp_path: Path, rng: np.random.Generator, version: str, block: tuple[int, int]
) -> None:
    pixels = rng.poisson(50, SHAPE).astype(np.uint16)
    image = ZarrImage.create(tmp_path / "a.zarr", SHAPE, "TYX", "uint16", block=block, version=version, **PLACE)
    assert (image.shape, image.ndim, image.dtype) == (SHAPE, 3, np.uint16)
    fill(pickle.loads(pickle.dumps(image)), pixels, block)
    assert not image.path.exists()
    image.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]

    group = zarr.open_group(str(image.path), mode="r")
    np.testing.assert_array_equal(group["0"][:], pixels)
    assert [group[f"{level}"].shape for level in range(len(list(group)))] == [SHAPE, (3, 350, 550), (3, 175, 275)]
    assert group["0"].chunks[0] == 1
    assert max(group["0"].chunks) <= (1024 if version == "0.4" else 512)
    small = pixels.reshape(3, 350, 2, 550, 2).mean((2, 4))
    np.testing.assert_array_equal(group["1"][:], np.rint(small))

    attributes = dict(group.attrs)
    if version == "0.5":
        assert "multiscales" in Image05.from_zarr(group).attributes.model_dump()["ome"]
        assert len(list((image.path / "0").rglob("c/*/*/*"))) == math.prod(
            -(-full // side) for full, side in zip(SHAPE, (1, *block), strict=True)
        )
    else:
        Attributes04.model_validate(attributes)
        assert group["0"].metadata.dimension_separator == "/"
    found = read_multiscale(attributes)
    assert (found.version, found.axes) == (version, "TYX")
    assert {"scale": found.scale, "translation": found.translation, "units": found.units} == PLACE


def test_every_level_lies_where_the_image_does(tmp_path: Path) -> None:
    image = ZarrImage.create(tmp_path / "a.zarr", SHAPE, "TYX", "uint16", block=BLOCK, **PLACE)
    (multiscale,) = dict(zarr.open_group(str(image.levels[0].store.root.parent), mode="r").attrs)["ome"]["multiscales"]
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, translation = (each[each["type"]] for each in dataset["coordinateTransformations"])
        assert scale == [2, 0.5 * 2**level, 0.25 * 2**level]
        # the outer edge of the first pixel
        edge = np.array(translation) - np.array(scale) / 2
        assert edge.tolist() == [-1, 10 - 0.25, -3 - 0.125]
    image.discard()
    assert not list(tmp_path.iterdir())
