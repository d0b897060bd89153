"""The header of an npy file, checked against the size of the file before memory is taken for what it promises."""

from __future__ import annotations

import math
from typing import IO, Any, NamedTuple

import numpy as np


class NpyHeader(NamedTuple):
    """What the header says of the array that follows it."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes], size: int) -> NpyHeader:
    """Read the header; the stream is at the first byte of the array then.

    Parameters
    ----------
    stream
        At the beginning of the npy file.
    size
        Of the file, bytes.

    Raises
    ------
    ValueError
        If there is no header, the numbers are objects (which would have to be unpickled), or the array is larger than
        the file.
    """
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):  # later ones are for records of many fields, and their headers may be of any length
        raise ValueError(f"expected version 1.0 of the npy format, found {version[0]}.{version[1]}")
    header = NpyHeader(*np.lib.format.read_array_header_1_0(stream))
    if header.dtype.hasobject:
        raise ValueError("it holds objects, not numbers")
    if any(side < 0 for side in header.shape) or header.nbytes > size - stream.tell():
        raise ValueError(f"it promises {header.dtype} of shape {header.shape}, and has {size} bytes")
    return header
