"""The live plot of the two losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg

from ..shared.panels import TRAIN_COLOUR, VALIDATION_COLOUR, Panels, in_colour

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ...progress import TrainingProgress
    from ...training.provenance import Record

_MOST = 2000  # records of a loss; of longer trainings neighbours are averaged
_WINDOWS = 10  # that fit into a training: the running mean is over this part of it
_SETTLED = 0.15  # first part of the training whose steep fall does not scale the axis


class _Losses:
    """One loss over the steps: running mean of training, and validation on top of it."""

    def __init__(self, item: pg.PlotItem) -> None:
        self.item = item
        self.train = item.plot(pen=pg.mkPen(TRAIN_COLOUR, width=2))
        self.validation = item.plot(
            pen=pg.mkPen(VALIDATION_COLOUR, width=2),
            symbol="o",
            symbolSize=5,
            symbolBrush=VALIDATION_COLOUR,
            symbolPen=None,
        )
        self.validation.setZValue(1)
        self.clear()

    def clear(self) -> None:
        self.steps: list[float] = []
        self.losses: list[float] = []
        self.validated_steps: list[int] = []
        self.validated: list[float] = []
        self.draw()

    def add(self, step: int, loss: float, validation: float | None) -> None:
        self.steps.append(step)
        self.losses.append(loss)
        if len(self.steps) > _MOST:
            self.steps, self.losses = _paired(self.steps), _paired(self.losses)
        if validation is not None and [validation] != self.validated[-1:]:  # records repeat the latest
            self.validated_steps.append(step)
            self.validated.append(validation)

    def draw(self) -> None:
        mean = running_mean(self.losses, len(self.losses) // _WINDOWS)
        self.train.setData(self.steps, mean)
        self.validation.setData(self.validated_steps, self.validated)
        limits = robust_range(self.steps, mean, self.validated_steps, self.validated)
        if limits is not None:
            self.item.setYRange(*limits, padding=0.1)


class LossPlot(Panels):
    """-ELBO of HDN and loss of the Direct Denoiser, training and validation, while training goes on."""

    def __init__(self) -> None:
        super().__init__(
            "Losses over the training steps, lower is better. Above: negative ELBO of HDN, nats per pixel. Below: loss "
            "of the Direct Denoiser. Blue: running mean of the training; orange: validation on patches that are not "
            "trained on.",
            height=280,
        )
        key = f"{in_colour('training', TRAIN_COLOUR)}, {in_colour('validation', VALIDATION_COLOUR)}"
        neg_elbo = self.panel(0, f"−ELBO: {key}")
        direct = self.panel(1, f"direct loss: {key}")
        direct.setLabel("bottom", "training step")
        direct.setXLink(neg_elbo)
        self.neg_elbo, self.direct = _Losses(neg_elbo), _Losses(direct)

    def add(self, record: TrainingProgress | Record) -> None:
        """Add one record; shown at the next `draw`."""
        self.neg_elbo.add(record.step, record.neg_elbo, record.validation_neg_elbo)
        self.direct.add(record.step, record.direct_loss, record.validation_direct_loss)

    def draw(self) -> None:
        """Show all records."""
        self.neg_elbo.draw()
        self.direct.draw()

    def reset(self) -> None:
        """Remove all records."""
        self.neg_elbo.clear()
        self.direct.clear()


def running_mean(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Mean of the finite values within half a window on either side, fewer at the ends; NaN where there are none."""
    values = np.asarray(values, float)
    finite = np.isfinite(values)
    sums = np.cumsum([0.0, *np.where(finite, values, 0)])
    counts = np.cumsum([0, *finite])
    at, reach = np.arange(len(values)), max(window, 1) // 2
    first, last = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    number = counts[last] - counts[first]
    return np.where(number > 0, (sums[last] - sums[first]) / np.maximum(number, 1), np.nan)


def robust_range(
    steps: ArrayLike, losses: ArrayLike, validated_steps: ArrayLike, validated: ArrayLike
) -> tuple[float, float] | None:
    """Lowest and highest loss to show, without the fall at the beginning and without outliers; None without losses."""
    parts = [(np.asarray(steps, float), np.asarray(losses, float), 98)]
    parts += [(np.asarray(validated_steps, float), np.asarray(validated, float), 100)]  # few points: all are shown
    parts = [(at[finite], loss[finite], high) for at, loss, high in parts if (finite := np.isfinite(loss)).any()]
    if not parts:
        return None
    every = np.concatenate([at for at, _, _ in parts])
    settled = every.min() + _SETTLED * np.ptp(every)
    ends = [np.percentile(loss[at >= settled], [0, high]) for at, loss, high in parts if (at >= settled).any()]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    return float(low), float(max(high, low + 1e-6))


def _paired(values: list[float]) -> list[float]:
    """Average neighbours two by two."""
    even = len(values) // 2 * 2
    return [*np.asarray(values[:even]).reshape(-1, 2).mean(1).tolist(), *values[even:]]
