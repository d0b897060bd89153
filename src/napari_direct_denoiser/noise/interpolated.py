"""Interpolated pixels: a colour camera measures a colour in a part of the pixels, and interpolates it in the others.

Noise of such images is not stationary, and the interpolated pixels hold nothing that the measured ones do not. So the
measured pixels alone are denoised, as an image of their own on their lattice, where noise is stationary; the others are
interpolated again, from the result. A checkerboard (green of a Bayer pattern) is a square lattice that is turned by 45
degrees; one of four pixels (red and blue) is an image of half the height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate2d

from ..data.patches import reflected
from ..errors import SettingError
from .models import NoiseModel
from .wrapped import PlanesWhenRead, WholePlaneNoise

Pattern = Literal["checkerboard", "quarter"]
Indices = NDArray[np.intp]
Image = NDArray[np.float32]

_MARGIN = 2  # lattice pixels around the image, for the interpolation; reflected
_LARGEST = 4.0  # weight
PATTERNS: tuple[tuple[Pattern, int, int], ...] = (
    *(("quarter", row, column) for row in (0, 1) for column in (0, 1)),
    ("checkerboard", 0, 0),
    ("checkerboard", 1, 0),
)


def is_measured(y: Any, x: Any, pattern: Pattern, row: int, column: int) -> Any:
    """Whether pixels in rows y and columns x, numbers or arrays, are measured."""
    if pattern == "checkerboard":
        return (y + x - row) % 2 == 0
    return (y % 2 == row) & (x % 2 == column)


class Weights(NamedTuple):
    """Weights of the measured pixels around an interpolated one, by their distance on the lattice, in pixels of it.

    The interpolated pixel is between four pixels, and has 4, 8 and 4 around it at 0.7, 1.6 and 2.1 pixels; or between
    two, and has 2, 2 and 4 around it at 0.5, 1.5 and 1.1 pixels.
    """

    near: float
    far: float
    other: float

    def between_four(self) -> Image:
        """As a kernel over the 4 x 4 pixels around a pixel between four."""
        near, far, other = self
        outer, inner = [other, far, far, other], [far, near, near, far]
        return np.array([outer, inner, inner, outer], np.float32)

    def between_two(self) -> Image:
        """As a kernel over the 3 x 4 pixels around a pixel between two of one row."""
        near, far, other = self
        beside = [0, other, other, 0]
        return np.array([beside, [far, near, near, far], beside], np.float32)


AMONG_FOUR, AMONG_TWO = (4, 8, 4), (2, 2, 4)
"""How many pixels `Weights` are of."""
CUBIC_OF_FOUR = Weights(81 / 256, -9 / 256, 1 / 256)
CUBIC_OF_TWO = Weights(9 / 16, -1 / 16, 0.0)
LINEAR_OF_FOUR, LINEAR_OF_TWO = Weights(1 / 4, 0.0, 0.0), Weights(1 / 2, 0.0, 0.0)


class InterpolatedNoise(WholePlaneNoise):
    """Noise of images of which a part of the pixels is measured, and the others are interpolated.

    `measured` gives the measured pixels as planes (P, U, V) of their own. Everything else is about these, and so is
    the noise of the base. `restored` interpolates the others.

    Parameters
    ----------
    base
        Model of the noise of the measured pixels on their lattice, or its `document`.
    pattern
        ``"checkerboard"``: every second pixel is measured, or ``"quarter"``: one of four.
    row, column
        Where the first measured pixel is, 0 or 1. That of a checkerboard is in column 0.
    of_four, of_two
        `Weights` of pixels between four measured ones, and between two; a checkerboard has only the first kind.

    Raises
    ------
    SettingError
        If there is no such pattern, or if the weights do not add up to 1.
    """

    kind = "interpolated"

    def __init__(
        self,
        base: NoiseModel | dict[str, Any],
        pattern: Pattern,
        row: int = 0,
        column: int = 0,
        of_four: Sequence[float] = CUBIC_OF_FOUR,
        of_two: Sequence[float] = CUBIC_OF_TWO,
    ) -> None:
        super().__init__(base)
        if (pattern, row, column) not in PATTERNS:
            raise SettingError(
                "Expected a checkerboard of measured pixels from row 0 or 1, or a quarter of the pixels from row and "
                f"column 0 or 1, found {str(pattern)[:20]!r} from row {row!r} and column {column!r}: correct the noise "
                "model"
            )
        self.pattern, self.row, self.column = pattern, int(row), int(column)
        self.of_four, self.of_two = _checked(of_four, AMONG_FOUR), _checked(of_two, AMONG_TWO)

    def with_base(self, base: NoiseModel) -> InterpolatedNoise:
        return InterpolatedNoise(base, self.pattern, self.row, self.column, self.of_four, self.of_two)

    def measured(self, planes: NDArray[Any]) -> NDArray[Any]:
        return self.base.measured(cast("NDArray[Any]", Measured(planes, self.pattern, self.row, self.column)))

    def at_measured(self, images: NDArray[Any]) -> NDArray[Any]:
        found = Measured(images, self.pattern, self.row, self.column)
        return self.base.at_measured(np.stack([found[number] for number in range(len(found))]))

    def restored(self, image: Image, shape: tuple[int, int], std_factor: float | None = None) -> Image:
        lattice = Lattice(self.pattern, self.row, self.column, shape)
        planes = self.base.restored(image, lattice.shape, std_factor).reshape(-1, *lattice.shape)
        return np.stack([self._restored(plane, lattice, std_factor) for plane in planes]).reshape(
            *image.shape[:-2], *shape
        )

    def _restored(self, image: Image, lattice: Lattice, std_factor: float | None) -> Image:
        if std_factor is None:
            return lattice.restored(image, self.of_four, self.of_two)
        # weights below 0 sharpen an image; a standard deviation must not fall below 0
        std = lattice.restored(image, LINEAR_OF_FOUR, LINEAR_OF_TWO)
        y, x = np.indices(lattice.plane, sparse=True)
        measured = is_measured(y, x, self.pattern, self.row, self.column)
        return np.where(measured, std, np.float32(std_factor) * std)

    def std_factor(self, errors: Sequence[Image]) -> float:
        of_four, of_two = self.of_four.between_four(), self.of_two.between_two()
        kernels = [of_four] if self.pattern == "checkerboard" else [of_four, of_two, of_two.T]
        squares = [np.square(correlate2d(error, kernel, "valid")).mean() for error in errors for kernel in kernels]
        return float((np.mean(squares) / np.mean([np.square(error).mean() for error in errors])) ** 0.5)

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "base": self.base.document(),
            "pattern": self.pattern,
            "row": self.row,
            "column": self.column,
            "of_four": list(self.of_four),
            "of_two": list(self.of_two),
        }

    def describe(self) -> str:
        which = "a checkerboard" if self.pattern == "checkerboard" else "one of four"
        return f"{self.base.describe()}, in {which} of the pixels; the others are interpolated"


class Lattice:
    """Where the measured pixels of a plane are.

    Parameters
    ----------
    pattern, row, column
        As in `InterpolatedNoise`.
    shape
        Of the plane, pixels.
    """

    def __init__(self, pattern: Pattern, row: int, column: int, shape: tuple[int, int]) -> None:
        self.plane, (height, width) = shape, shape
        self.pattern, self.row, self.column = pattern, row, column
        self._down = height // 2 + 1  # brings differences of columns and rows to numbers from 0
        if pattern == "checkerboard":
            side = (height + width) // 2 + 2 * _MARGIN + 3
            self.shape = side, side
        else:
            self.shape = (height + 1) // 2 + 2 * _MARGIN, (width + 1) // 2 + 2 * _MARGIN

    def pixels(self, rows: Indices, columns: Indices) -> tuple[Indices, Indices]:
        """Row and column in the plane of the pixels of some rows and columns of the lattice, each (rows, columns)."""
        u, v = rows[:, None] - _MARGIN, columns[None] - _MARGIN
        if self.pattern == "checkerboard":
            v = v - self._down
            y, x = self.row + u - v, u + v
        else:
            y, x = self.row + 2 * u + 0 * v, self.column + 2 * v + 0 * u
        return reflected(y, self.plane[0]), reflected(x, self.plane[1])

    def restored(self, image: Image, of_four: Weights, of_two: Weights) -> Image:
        """The whole plane: measured pixels from an image on the lattice, the others interpolated."""
        height, width = image.shape
        twice = np.zeros((2 * height - 1, 2 * width - 1), np.float32)
        padded = np.pad(image, 1, mode="edge")
        twice[::2, ::2] = image
        twice[1::2, 1::2] = correlate2d(padded, of_four.between_four(), "valid")
        y, x = np.arange(self.plane[0])[:, None] - self.row, np.arange(self.plane[1])[None]
        if self.pattern == "checkerboard":
            return np.asarray(twice[x + y + 2 * _MARGIN, x - y + 2 * (_MARGIN + self._down)])
        twice[::2, 1::2] = correlate2d(padded, of_two.between_two(), "valid")
        twice[1::2, ::2] = correlate2d(padded, of_two.between_two().T, "valid")
        return np.asarray(twice[y + 2 * _MARGIN, x - self.column + 2 * _MARGIN])


class Measured(PlanesWhenRead):
    """The measured pixels of planes (P, Y, X) on their lattice, (P, U, V)."""

    def __init__(self, planes: NDArray[Any], pattern: Pattern, row: int, column: int) -> None:
        super().__init__(planes)
        self._lattice = Lattice(pattern, row, column, (planes.shape[-2], planes.shape[-1]))
        self.shape = (len(planes), *self._lattice.shape)
        self.dtype = planes.dtype

    def _read(self, index: int, rows: slice, columns: slice) -> NDArray[Any]:
        sides = self._lattice.shape
        y, x = self._lattice.pixels(np.arange(sides[0])[rows], np.arange(sides[1])[columns])
        top, left = y.min(), x.min()
        seen: NDArray[Any] = np.asarray(self._planes[index, top : y.max() + 1, left : x.max() + 1])
        return np.asarray(seen[y - top, x - left])


def _checked(weights: Sequence[float], counts: tuple[int, int, int]) -> Weights:
    try:
        found = np.array(weights, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != (3,) or not (np.abs(found) <= _LARGEST).all() or abs(float(found @ counts) - 1) > 1e-3:
        raise SettingError(
            f"Expected three weights of {counts} pixels that add up to 1 to interpolate, found {str(weights)[:60]}: "
            "fit the noise model again"
        )
    return Weights(*found.tolist())
