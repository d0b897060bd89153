"""Which of the direct pass and the mean of samples is better, by how much, how much faster, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..progress import HARDLY_DB
from .compare import rms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .estimated_errors import EstimatedErrors
    from .sample_convergence import SampleConvergence

_SURE = 2  # standard errors: a smaller difference is none


@dataclass(frozen=True)
class Verdict:
    """A comparison of the direct pass with the mean of samples of HDN.

    Attributes
    ----------
    samples
        Number N of samples in the mean.
    direct_seconds, mean_seconds
        Computing times.
    direct_mse
        Mean squared error of the direct pass, counts^2; None if it is not known.
    difference
        Mean squared error of the direct pass minus that of the mean, counts^2; None if it is not known.
    standard_error
        Of an estimated difference, counts^2; None for one that was measured against a truth.
    why
        Why the difference is not known.
    blur
        What to say if a Gaussian blur would do as well.
    """

    samples: int
    direct_seconds: float
    mean_seconds: float
    direct_mse: float | None = None
    difference: float | None = None
    standard_error: float | None = None
    why: str | None = None
    blur: str | None = None

    @property
    def is_estimated(self) -> bool:
        """Whether the errors are estimated, and not measured against a truth."""
        return self.standard_error is not None

    @property
    def mean_mse(self) -> float | None:
        """Mean squared error of the mean of samples, counts^2; None if it is not known."""
        if self.direct_mse is None or self.difference is None:
            return None
        return max(self.direct_mse - self.difference, 0.0)

    @property
    def gain_db(self) -> float | None:
        """How much better the direct pass is, dB; None if it is not known."""
        if not self.direct_mse or not self.mean_mse:
            return None
        return 10 * math.log10(self.mean_mse / self.direct_mse)

    @property
    def gain_error_db(self) -> float | None:
        """Standard error of an estimated gain, dB."""
        if self.gain_db is None or self.standard_error is None or self.mean_mse is None:
            return None
        return 10 / math.log(10) * self.standard_error / self.mean_mse

    def sentence(self) -> str:
        """Say it in one sentence, and one more if a blur would do."""
        return self._sentence() if self.blur is None else f"{self._sentence()} {self.blur}"

    def _sentence(self) -> str:
        mean = f"the mean of {self.samples} samples" if self.samples > 1 else "one sample"
        times = self.mean_seconds / self.direct_seconds
        seconds = f"{_two_digits(self.direct_seconds)} s against {_two_digits(self.mean_seconds)} s"
        speed = f"{_two_digits(times)} times as fast ({seconds})"
        if self.difference is None:
            return f"The direct pass is {speed}. Whether it is better than {mean} is not known. {self.why}"
        if self.standard_error is not None and abs(self.difference) < _SURE * self.standard_error:
            return f"The direct pass is as good as {mean} ({self._by()} between them), and {speed}."
        if self.difference < 0:
            return f"The direct pass is better than {mean} by {self._by()}{self._errors()}, and {speed}."
        return f"{mean.capitalize()} is better than the direct pass by {self._by()}{self._errors()}; direct is {speed}."

    def _by(self) -> str:
        """How large the difference is, and how sure."""
        gain, error = self.gain_db, self.gain_error_db
        if gain is None:
            assert self.difference is not None
            spread = "" if self.standard_error is None else f" ± {self.standard_error:.2g}"
            words = f"{abs(self.difference):.3g}{spread} counts² of mean squared error"
        else:
            words = f"{abs(gain):.2f} dB" if error is None else f"{abs(gain):.2f} ± {error:.2f} dB"
        return words if self.standard_error is None else f"an estimated {words}"

    def _errors(self) -> str:
        if self.direct_mse is None or self.mean_mse is None:
            return ""
        return f" (RMS error {math.sqrt(self.direct_mse):.3g} against {math.sqrt(self.mean_mse):.3g})"


def _two_digits(value: float) -> str:
    """Round to two digits, and never write an exponent."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


@dataclass(frozen=True, eq=False)
class Compared:
    """The direct pass and the means of samples, with their errors.

    Attributes
    ----------
    result
        The images.
    errors
        Root mean squared error of each mean, and then of the direct pass, counts; None if they are not known.
    verdict
        On the direct pass and the mean of most samples.
    """

    result: SampleConvergence
    errors: list[float] | None
    verdict: Verdict


def measured(result: SampleConvergence, truth: NDArray[Any]) -> Compared:
    """Compare by the errors against a truth (P, H, W)."""
    errors = [rms(each.planes - truth) for each in result.judged()]
    return _compared(result, errors, errors[-1] ** 2, errors[-1] ** 2 - errors[-2] ** 2)


def estimated(result: SampleConvergence, found: EstimatedErrors) -> Compared:
    """Compare by errors that were estimated without a truth: those of all means of the result."""
    if not found.differences:
        return _compared(result, None, why=f"{found.gain.why}.")
    last, own = found.differences[-1], found.direct_mse
    squares = [] if own is None else [*(own - each.difference for each in found.differences), own]
    errors = [math.sqrt(square) for square in squares] if squares and min(squares) > 0 else None
    known = None if errors is None else own
    blur = f"{found.gain.words}." if found.gain.best == "blur" or (found.gain.gain_db or 1) < HARDLY_DB else None
    return _compared(result, errors, known, last.difference, last.error, blur=blur)


def _compared(
    result: SampleConvergence,
    errors: list[float] | None,
    direct_mse: float | None = None,
    difference: float | None = None,
    standard_error: float | None = None,
    why: str | None = None,
    blur: str | None = None,
) -> Compared:
    seconds = result.direct_seconds, result.seconds[-1]
    verdict = Verdict(result.samples[-1], *seconds, direct_mse, difference, standard_error, why, blur)
    return Compared(result, errors, verdict)
