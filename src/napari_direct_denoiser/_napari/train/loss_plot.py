"""The live plot of the two losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg

from ..shared.panels import TRAIN_COLOUR, VALIDATION_COLOUR, Panels, in_colour

if TYPE_CHECKING:
    from ...progress import TrainingProgress
    from ...training.provenance import Record


class _Losses:
    """One loss over the steps: training thin, validation thick."""

    def __init__(self, item: pg.PlotItem) -> None:
        self.item = item
        self.train = item.plot(pen=pg.mkPen(TRAIN_COLOUR, width=1))
        self.validation = item.plot(
            pen=pg.mkPen(VALIDATION_COLOUR, width=2),
            symbol="o",
            symbolSize=5,
            symbolBrush=VALIDATION_COLOUR,
            symbolPen=None,
        )
        self.clear()

    def clear(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.validated_steps: list[int] = []
        self.validated: list[float] = []
        self.draw()

    def add(self, step: int, loss: float, validation: float | None) -> None:
        self.steps.append(step)
        self.losses.append(loss)
        if validation is not None and [validation] != self.validated[-1:]:  # records repeat the latest
            self.validated_steps.append(step)
            self.validated.append(validation)

    def draw(self) -> None:
        self.train.setData(self.steps, self.losses)
        self.validation.setData(self.validated_steps, self.validated)
        shown = np.array(
            [*self.losses[len(self.losses) // 10 :], *self.validated]
        )  # the first fall would hide the rest
        shown = shown[np.isfinite(shown)]
        if shown.size:
            low, high = np.percentile(shown, [0, 98])
            self.item.setYRange(low, max(high, low + 1e-6), padding=0.1)


class LossPlot(Panels):
    """ELBO and direct loss, of training and validation, while training goes on."""

    def __init__(self) -> None:
        super().__init__(
            "Losses over training steps, lower is better. Above the negative ELBO of HDN in nats a pixel, "
            "below the loss of the Direct Denoiser. Blue: training; orange: validation.",
            height=240,
        )
        key = f"{in_colour('training', TRAIN_COLOUR)}, {in_colour('validation', VALIDATION_COLOUR)}"
        neg_elbo = self.panel(0, f"HDN, −ELBO: {key}")
        direct = self.panel(1, f"Direct Denoiser, loss: {key}")
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
        """Forget all records."""
        self.neg_elbo.clear()
        self.direct.clear()
