"""What a region may look like: clusters of posterior samples, and one sample of each."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.ndimage import gaussian_filter

from ..data.images import LazyPlanes, as_planes, check_finite
from ..prediction.predict import predict_steps
from ..progress import Progress

if TYPE_CHECKING:
    from ..co_model import CoModel

COUNT = 3
"""Most alternatives that are shown."""
SAMPLES = 50
"""Samples that are drawn of a region."""
SIDE = 256
"""Longest side of a region, pixels. In a larger one, clusters that differ at one place are lost among all others."""

_BLUR = 1.0  # standard deviation, pixels: structure is larger than one pixel
_COMPONENTS = 5  # principal components: where there are hardly fewer than samples, any two halves look distinct
_FEWEST = 3  # samples of a cluster: fewer are outliers
# Distance between two clusters over the spread within them. The halves of a normal distribution are 2.7 apart, those of
# a uniform one 3.5; of 400 draws of 50 samples, the largest were 4.3 and 5.2.
_DISTINCT = 5.0


@dataclass(frozen=True, eq=False)
class Alternatives:
    """Clusters of N samples, the largest first.

    Attributes
    ----------
    indices
        The sample of each cluster that is nearest to its centre.
    shares
        Share of the samples in each cluster, 0 to 1.
    distinctness
        Smallest distance between the centres of two clusters, over the standard deviation within them along the line
        between the centres; 0 if there is one cluster.
    are_distinct
        Whether the clusters are alternatives. If not, the samples scatter around one image, and the clusters are parts
        of that scatter.
    labels
        (N,), the cluster of each sample.
    """

    indices: tuple[int, ...]
    shares: tuple[float, ...]
    distinctness: float
    are_distinct: bool
    labels: NDArray[np.intp]


def representatives(samples: NDArray[np.float32], count: int = COUNT) -> Alternatives:
    """Find clusters of samples, and one sample that represents each.

    Ward's clustering of the first principal components of the slightly blurred samples. The number of clusters is the
    largest, up to ``count``, with which all are distinct. If none is, there are ``count`` clusters that are not.

    Parameters
    ----------
    samples
        (N, h, w), N at least 2, in units in which the same difference matters as much in each pixel.
    count
        Most clusters.
    """
    scores = _principal_components(gaussian_filter(samples, (0, _BLUR, _BLUR)))
    tree = linkage(scores, "ward")
    for clusters in (*range(count, 1, -1), count):  # the last one if none is distinct
        labels = _largest_first(fcluster(tree, clusters, "maxclust"))
        sizes = np.bincount(labels)
        centres = [scores[labels == label].mean(0) for label in range(len(sizes))]
        distinctness = _distinctness(scores, labels, centres)
        if are_distinct := bool(distinctness >= _DISTINCT and sizes.min() >= _FEWEST):
            break
    indices = []
    for label, centre in enumerate(centres):
        away = np.linalg.norm(scores - centre, axis=1)
        indices.append(int(np.where(labels == label, away, np.inf).argmin()))
    shares = tuple((sizes / len(samples)).tolist())
    return Alternatives(tuple(indices), shares, distinctness, are_distinct, labels)


def _principal_components(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores (N, `_COMPONENTS`) of samples (N, h, w)."""
    vectors = (samples - samples[0]).reshape(len(samples), -1).astype(np.float64)  # equal samples: exactly 0
    vectors -= vectors.mean(0)
    energies, directions = np.linalg.eigh(vectors @ vectors.T)  # rising
    scores: NDArray[np.float64] = directions * np.sqrt(np.maximum(energies, 0))
    return scores[:, : -_COMPONENTS - 1 : -1]


def _largest_first(clusters: NDArray[np.integer]) -> NDArray[np.intp]:
    """Number clusters from 0, by their size."""
    _, labels, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return np.argsort(np.argsort(-sizes, kind="stable"))[labels]


def _distinctness(scores: NDArray[np.float64], labels: NDArray[np.intp], centres: list[NDArray[np.float64]]) -> float:
    found = []
    for one, other in combinations(range(len(centres)), 2):
        line = centres[one] - centres[other]
        within = np.concatenate([(scores[labels == label] - centres[label]) @ line for label in (one, other)])
        squared, spread = float(line @ line), float(within.std())
        found.append(squared / spread if spread > 0 else np.inf)
    return min(found, default=0.0)


@dataclass(frozen=True, eq=False)
class RegionAlternatives:
    """Alternatives of a region of one plane.

    Attributes
    ----------
    images
        One sample of each cluster, the largest cluster first, (K, h, w) in image units.
    alternatives
        The clusters.
    place
        Y and X, in the plane, of the pixel where the means of the clusters differ most, in units of the noise.
    difference
        How much they differ there, counts.
    """

    images: NDArray[np.float32]
    alternatives: Alternatives
    place: tuple[int, int]
    difference: float

    def sentence(self) -> str:
        """Say how many alternatives there are, with which shares, and where they differ most."""
        count, shares = len(self.images), [f"{share:.0%}" for share in self.alternatives.shares]
        samples = len(self.alternatives.labels)
        if not self.alternatives.are_distinct:
            shown = "One of them is shown." if count == 1 else f"{count} of them are shown."
            return f"No distinct alternatives: the {samples} samples scatter around one image. {shown}"
        (y, x), listed = self.place, f"{', '.join(shares[:-1])} and {shares[-1]}"
        differ = f"They differ most at Y={y}, X={x}, by {self.difference:.3g} counts."
        return f"{count} alternatives, in {listed} of {samples} samples. {differ}"


def alternatives_steps(
    model: CoModel, planes: LazyPlanes, number: int, region: tuple[slice, slice], *, samples: int = SAMPLES
) -> Generator[Progress, None, RegionAlternatives]:
    """Draw posterior samples of a region, and find the alternatives among them; a generator of progress.

    Parameters
    ----------
    model
        Trained networks.
    planes, number
        The noisy planes, and the number of the one with the region. Only the region and its context are read.
    region
        Y and X, inside the plane.
    samples
        How many to draw.

    Raises
    ------
    ImageError
        If a pixel is not finite.
    DenoiserError
        As `predict_steps`.
    """
    sides = [planes.data.shape[planes.axes.index(axis)] for axis in "YX"]
    window = [_with_context(part, side, model) for part, side in zip(region, sides, strict=True)]
    named = dict(zip("YX", window, strict=True))
    where = tuple(named.get(axis, part) for axis, part in zip(planes.axes, planes.regions[number], strict=True))
    noisy = as_planes(np.asarray(planes.data[where]), planes.axes)
    check_finite(noisy, origin=[part.start or 0 for part in where])
    result = yield from predict_steps(model, noisy.data, ["sample"], samples=samples, first=number)
    inner = [slice(part.start - seen.start, part.stop - seen.start) for part, seen in zip(region, window, strict=True)]
    drawn = result["sample"][:, 0, inner[0], inner[1]]
    mean = torch.from_numpy(drawn.mean(0)).to(model.device)
    with torch.inference_mode():
        noise = model.noise.variance(mean).sqrt().cpu().numpy()
    found = representatives(drawn / noise)  # in units of the noise: bright structure does not outweigh the rest
    means = np.stack([drawn[found.labels == label].mean(0) for label in range(len(found.indices))])
    differences = np.ptp(gaussian_filter(means, (0, _BLUR, _BLUR)), axis=0)
    row, column = np.unravel_index((differences / noise).argmax(), differences.shape)
    place = int(region[0].start + row), int(region[1].start + column)
    return RegionAlternatives(drawn[list(found.indices)], found, place, float(differences[row, column]))


def _with_context(part: slice, side: int, model: CoModel) -> slice:
    """Add to a part of an axis what the networks need to see around it."""
    start = max(part.start - model.halo, 0) // model.multiple * model.multiple
    return slice(start, min(part.stop + model.halo, side))
