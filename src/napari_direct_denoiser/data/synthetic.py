"""A simulated microscopy stack with known truth: filaments, blobs and nuclei under Poisson-Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]  # (H, W)


@dataclass(frozen=True, eq=False)
class SyntheticStack:
    """A noisy stack and its noise-free truth.

    Attributes
    ----------
    noisy
        Camera counts, ``(T, Y, X)`` uint16: ``offset + gain * Poisson(electrons) + Normal(0, read_noise)``, rounded.
    truth
        Expected counts, ``(T, Y, X)`` float32: ``offset + gain * electrons``.
    gain
        Counts for one photo-electron.
    offset
        Counts in the dark.
    read_noise
        Standard deviation of the camera's own noise, in counts.
    """

    noisy: NDArray[np.uint16]
    truth: NDArray[np.float32]
    gain: float
    offset: float
    read_noise: float


def simulate(
    planes: int = 8,
    size: int = 256,
    seed: int = 0,
    *,
    photons: float = 16.0,
    gain: float = 2.0,
    offset: float = 100.0,
    read_noise: float = 3.0,
) -> SyntheticStack:
    """Simulate low-light fluorescence images of cells.

    Parameters
    ----------
    planes
        Number of fields of view. They differ, but are of one kind.
    size
        Width and height of a plane, in pixels.
    seed
        The same seed gives the same stack.
    photons
        Photo-electrons in a bright pixel (one in two hundred is brighter).
    gain, offset, read_noise
        The camera, in counts. See `SyntheticStack`.
    """
    rng = np.random.default_rng(seed)
    electrons = photons * np.stack([_field_of_view(size, rng) for _ in range(planes)])  # (T, Y, X)
    counts = offset + gain * rng.poisson(electrons) + rng.normal(0.0, read_noise, electrons.shape)
    return SyntheticStack(
        noisy=np.rint(counts).clip(0, np.iinfo(np.uint16).max).astype(np.uint16),
        truth=(offset + gain * electrons).astype(np.float32),
        gain=gain,
        offset=offset,
        read_noise=read_noise,
    )


def _field_of_view(size: int, rng: np.random.Generator) -> Field:
    """One sharp scene through a microscope; 99.5 % of the pixels lie between 0 and 1."""
    from scipy.ndimage import gaussian_filter  # slow to import

    spacing = 96  # pixels between cells, whatever the size of the field
    grid = np.arange(-spacing / 2, size + spacing, spacing)
    centres = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)  # (cells, 2): y, x
    centres = centres + rng.uniform(-0.3, 0.3, centres.shape) * spacing + rng.uniform(0, spacing / 2, 2)
    nuclei, inside = _nuclei(size, centres, rng)
    sharp = _filaments(size, centres, rng) * (1 - 0.75 * inside) + _blobs(size, centres, rng)
    in_focus = gaussian_filter(sharp, 1.1, mode="constant") + 0.45 * gaussian_filter(nuclei, 1.5, mode="nearest")
    haze = gaussian_filter(in_focus, 9, mode="reflect")  # light from above and below the focal plane
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    scene = (in_focus + 0.35 * haze) * (1 - 0.15 * (x**2 + y**2))  # illumination falls off towards the corners
    return np.asarray(0.04 + 0.96 * scene / np.quantile(scene, 0.995))


def _nuclei(size: int, centres: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """Brightness of the nuclei, with chromatin texture, and how far each pixel lies inside one (0 to 1)."""
    from scipy.ndimage import gaussian_filter

    texture = gaussian_filter(rng.normal(size=(size, size)), 2.5, mode="wrap")
    texture = 1 + 0.3 * texture / texture.std()
    inside = np.zeros((size, size))
    for centre in centres:
        tilt, (a, b) = rng.uniform(0, np.pi), rng.uniform([17, 13], [23, 18])  # half axes in pixels
        reach = [slice(*np.clip([c - 30, c + 30], 0, size).astype(int)) for c in centre]
        y, x = np.mgrid[reach[0], reach[1]]
        dy, dx = y - centre[0], x - centre[1]
        u, v = dx * np.cos(tilt) + dy * np.sin(tilt), dy * np.cos(tilt) - dx * np.sin(tilt)
        bend = 1 + 0.08 * np.cos(3 * np.arctan2(v, u) + tilt)  # no nucleus is a perfect ellipse
        depth = 1 - np.hypot(u / a, v / b) / bend  # 1 in the middle, 0 at the rim
        inside[*reach] = np.maximum(inside[*reach], 1 / (1 + np.exp(-12 * depth)))
    return inside * texture.clip(0.2, None), inside


def _filaments(size: int, centres: Field, rng: np.random.Generator) -> Field:
    """Curved filaments that start around the nuclei and run outwards, as microtubules do."""
    per_cell, steps, step = 24, 280, 0.4  # pixels a step
    starts = np.repeat(centres, per_cell, axis=0)
    count = len(starts)
    heading = rng.uniform(0, 2 * np.pi, count)
    curvature = np.cumsum(rng.normal(0, 0.0022, (count, steps)), axis=1) + rng.normal(0, 0.006, (count, 1))
    angle = heading[:, None] + rng.normal(0, 0.5, (count, 1)) + np.cumsum(curvature, axis=1) * step
    first = starts + 20 * rng.uniform(0.3, 1.2, (count, 1)) * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    path = first[:, None] + np.cumsum(np.stack([np.sin(angle), np.cos(angle)], axis=-1) * step, axis=1)
    length = rng.uniform(0.35, 1, (count, 1)) * steps
    shown = (np.arange(steps) < length) * rng.lognormal(0, 0.35, (count, 1))  # (filaments, steps): brightness
    return _draw(size, path.reshape(-1, 2), shown.ravel() * step)


def _blobs(size: int, centres: Field, rng: np.random.Generator) -> Field:
    """Vesicles: points of light, more of them near the nuclei."""
    per_cell = 14
    points = np.repeat(centres, per_cell, axis=0)
    points = points + rng.normal(0, 24, points.shape)
    return _draw(size, points, rng.lognormal(1.3, 0.4, len(points)))


def _draw(size: int, points: Field, brightness: Field) -> Field:
    """Add points ``(n, 2)`` (y, x) to an empty field, each shared out between its four nearest pixels."""
    field = np.zeros((size, size))
    corner = np.floor(points).astype(int)
    part = points - corner
    for dy in (0, 1):
        for dx in (0, 1):
            y, x = corner[:, 0] + dy, corner[:, 1] + dx
            weight = brightness * np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
            seen = (y >= 0) & (y < size) & (x >= 0) & (x < size)
            np.add.at(field, (y[seen], x[seen]), weight[seen])
    return field
