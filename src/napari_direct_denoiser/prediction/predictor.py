"""Denoising by a trained model: images in, images of the same shape and units out, in memory or as dask arrays."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import MIN_SIDE
from ..data.images import Planes, as_planes, check_planes, named_axes, take_channel
from ..errors import SettingError
from ..progress import drain
from .lazy import denoised
from .predict import Prediction, predict_steps
from .tiling import Output

if TYPE_CHECKING:
    from ..co_model import CoModel


class Predictor(ABC):
    """The part of `Denoiser` that denoises."""

    model: CoModel

    @property
    @abstractmethod
    def trained_axes(self) -> str:
        """Axes of the training images, such as TYX."""

    def planes(self, image: ArrayLike, axes: str | None = None) -> Planes:
        """View an image in memory as the planes that are denoised; axes as in `axes_of`."""
        array = np.asanyarray(image)
        return as_planes(array, self.axes_of(array.shape, axes))

    def axes_of(self, shape: tuple[int, ...], axes: str | None = None) -> str:
        """Axes of an image of this shape: the given ones, those of the training if they are as many, or a guess.

        Raises `ImageError` if the axes do not match the shape, or the image is in colour or has channels.
        """
        trained = self.trained_axes
        return named_axes(shape, axes or (trained if len(trained) == len(shape) else None))

    def denoise_steps(
        self,
        image: ArrayLike,
        outputs: Sequence[Output] | Sequence[str],
        *,
        samples: int = 50,
        seed: int = 0,
        axes: str | None = None,
        first: int = 0,
        keep: int | None = None,
    ) -> Prediction:
        """Denoise an image in memory; a generator of progress that returns the results.

        Parameters
        ----------
        image
            Noisy counts with at least two axes.
        outputs
            What to compute: ``"direct"``, ``"std"``, ``"mean"``, ``"median"``, ``"mode"``, ``"sample_std"``,
            ``"sample"``; see `predict_steps`.
        samples, seed
            Number of posterior samples, and their seed.
        axes
            Letters of the axes; those of the training if not given and as many, otherwise a guess.
        first
            Number of the first plane, if the image is part of a larger stack.
        keep
            How many samples ``"sample"`` gives, the first ones; all if not given. Only these take memory.

        Returns
        -------
        dict of str to ndarray
            float32 in the image's shape and units by output; ``"sample"`` has the samples as an extra first axis.

        Raises
        ------
        ImageError
            Before any work, if the image cannot be denoised.
        """
        if "deviation" in outputs:
            warnings.warn('the output "deviation" is now "sample_std"', DeprecationWarning, stacklevel=2)
        wanted: dict[str, Output] = {name: "sample_std" if name == "deviation" else name for name in outputs}  # type: ignore[misc]
        planes = self.planes(image, axes)
        check_planes(planes, min_side=MIN_SIDE, name="image", require_contrast=False)
        results = yield from predict_steps(
            self.model, planes.data, list(wanted.values()), samples=samples, seed=seed, first=first, keep=keep
        )
        return {name: planes.restore(results[output]) for name, output in wanted.items()}

    def denoise(self, image: ArrayLike, *, axes: str | None = None, channel: int | None = None) -> NDArray[np.float32]:
        """Denoise in one pass of the Direct Denoiser.

        Parameters
        ----------
        image
            Noisy counts with at least two axes. A dask array gives a dask array: each plane is denoised when it is
            computed.
        axes
            Letters of the axes, such as ``"TYX"``; those of the training if not given and as many, otherwise a guess.
        channel
            Take this channel of the image, from 0; the result has no channel axis.

        Returns
        -------
        ndarray or dask array
            float32, in the image's shape and units.

        Raises
        ------
        ImageError
            If the image cannot be denoised.
        """
        return self._output(image, "direct", axes=axes, channel=channel)

    def sample(
        self, image: ArrayLike, n: int, seed: int = 0, *, axes: str | None = None, channel: int | None = None
    ) -> NDArray[np.float32]:
        """Draw ``n`` posterior samples from HDN: (n, *image.shape). See `denoise` for the rest."""
        return self._output(image, "sample", n, seed, axes=axes, channel=channel)

    def posterior_mean(
        self, image: ArrayLike, n: int, seed: int = 0, *, axes: str | None = None, channel: int | None = None
    ) -> NDArray[np.float32]:
        """Mean of ``n`` posterior samples (MMSE estimate). See `denoise` for the rest."""
        return self._output(image, "mean", n, seed, axes=axes, channel=channel)

    def posterior_median(
        self, image: ArrayLike, n: int, seed: int = 0, *, axes: str | None = None, channel: int | None = None
    ) -> NDArray[np.float32]:
        """Pixel-wise median of ``n`` posterior samples (MMAE estimate). See `denoise` for the rest."""
        return self._output(image, "median", n, seed, axes=axes, channel=channel)

    def posterior_mode(
        self, image: ArrayLike, n: int, seed: int = 0, *, axes: str | None = None, channel: int | None = None
    ) -> NDArray[np.float32]:
        """Pixel-wise mode of ``n`` posterior samples (near the MAP estimate). See `denoise` for the rest."""
        return self._output(image, "mode", n, seed, axes=axes, channel=channel)

    def std(
        self,
        image: ArrayLike,
        n: int | None = None,
        seed: int = 0,
        *,
        axes: str | None = None,
        channel: int | None = None,
    ) -> NDArray[np.float32]:
        """Pixel-wise standard deviation of the error of `denoise`, counts, in one pass. See there for the rest.

        With ``n``: the standard deviation of ``n`` posterior samples, calibrated to the error of their mean. So it is
        with 50 for a model of an older version, which does not predict it.
        """
        return self._output(
            image, "std" if n is None else "sample_std", 50 if n is None else n, seed, axes=axes, channel=channel
        )

    def consensus(
        self,
        image: ArrayLike,
        n: int,
        how: Literal["mean", "median"] = "mean",
        seed: int = 0,
        *,
        axes: str | None = None,
    ) -> NDArray[np.float32]:
        """Old name of `posterior_mean` and `posterior_median`."""
        if how not in ("mean", "median"):
            raise SettingError(f"Expected mean or median, found {how!r}: choose one of them")
        warnings.warn(f"Denoiser.consensus is now posterior_{how}", DeprecationWarning, stacklevel=2)
        return self._output(image, how, n, seed, axes=axes)

    def _output(
        self,
        image: Any,
        output: Output,
        samples: int = 1,
        seed: int = 0,
        *,
        axes: str | None,
        channel: int | None = None,
    ) -> NDArray[np.float32]:
        image, axes = take_channel(image if hasattr(image, "shape") else np.asarray(image), axes, channel)
        if not hasattr(image, "__dask_graph__"):
            return drain(self.denoise_steps(image, [output], samples=samples, seed=seed, axes=axes))[output]
        axes = self.axes_of(image.shape, axes)
        lazy: NDArray[np.float32] = denoised(self.model, image, output, axes=axes, samples=samples, seed=seed)
        return lazy
