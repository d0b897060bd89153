"""Which weights of the Direct Denoiser are nearer to the truth, and how much better than a blur, on patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..co_model import CoModel
from ..normalization import NetworkInput
from ..risk import SQUARED_ERROR_UNKNOWN, Gain, Probe, Response, blurs, gain, unjudged
from .state import State
from .targets import Pair, StudentTargets

Pairs = Sequence[tuple[NetworkInput, Tensor]]

_BORDER = 8  # pixels at the edge of a patch that are not judged: estimates lack context there, and color starts anew


@dataclass(frozen=True, eq=False)
class Measured:
    """What weights of the Direct Denoiser make of the patches, without their border."""

    response: Response
    squared_error: Tensor
    """See `Probe.squared_error`."""
    why: str | None
    """Why it cannot be judged, if so."""

    def state(self) -> State:
        """All of it."""
        response = (self.response.estimate, self.response.product)
        return {"response": response, "squared_error": self.squared_error, "why": self.why}

    @classmethod
    def of(cls, state: State, device: torch.device) -> Measured:
        """Undo `state`."""
        estimate, product, squared_error = (each.to(device) for each in (*state["response"], state["squared_error"]))
        return cls(Response(estimate, product), squared_error, state["why"])


class PatchReferee:
    """Compares weights on noisy patches without a truth, always with the same noise (`risk.Probe`).

    Parameters
    ----------
    batches
        Noisy patches (B, 1, H, W), counts, with a margin on every side.
    margin
        Width of the margin, pixels.
    """

    def __init__(self, batches: Sequence[Tensor], margin: int) -> None:
        self._batches, self._margin = batches, margin
        self._border = min(_BORDER, (batches[0].shape[-1] - 2 * margin) // 4)
        self._whole: Probe | None = None
        self._probe: Probe | None = None
        self._best_blur: Response | None = None
        self._redrawn: list[Pair] = []

    def forget(self) -> None:
        """Draw other noise from now on: the noise model has changed."""
        self._probe = None
        self._redrawn = []

    def state(self) -> State:
        """The noise that was drawn."""
        whole = self._whole if self._probe else None
        probe = None if whole is None else (whole.noise, whole.weighted, whole.white)
        return {"probe": probe, "redrawn": [(tuple(inputs), clean) for inputs, clean in self._redrawn]}

    def restore(self, state: State, device: torch.device) -> None:
        """Go on with this noise."""
        if state["probe"] is not None:
            noise, weighted, white = state["probe"]
            self._take(Probe(torch.cat(list(self._batches)), noise.to(device), weighted.to(device), white))
        self._redrawn = pairs_of(state["redrawn"], device)

    def redraw(self, model: CoModel, pairs: Pairs, generator: torch.Generator) -> None:
        """Draw noise anew for the samples (whitened) that HDN drew for the patches."""
        targets = StudentTargets(model, 0.0, resample_noise=True)
        self._redrawn = [targets.pair(inputs, sample, generator) for inputs, sample in pairs]

    def measure(self, model: CoModel) -> Measured:
        """Apply a model to the patches, to the same with a little more noise, and to noise drawn anew."""
        probe = self._drawn(model)
        response = probe.response(*(self._direct(model, part) for part in (self._noisy, self._shifted)))
        errors = [self._inside(model.noise.color(model.denoise(inputs) - clean)) for inputs, clean in self._redrawn]
        redrawn_error = torch.cat(errors)
        why = unjudged(model) or probe.misfit(response, redrawn_error)
        return Measured(response, probe.squared_error(response, redrawn_error), why)

    def gain(self, measured: Measured, other: Measured | None = None) -> Gain | None:
        """Gain over others, or over the best blur."""
        assert self._probe is not None
        more, shared = self._probe.pixels(other.response if other else self._blur(), measured.response)
        own = measured.squared_error
        return gain(own, more, (SQUARED_ERROR_UNKNOWN * float(own.mean()), shared))

    def _drawn(self, model: CoModel) -> Probe:
        if self._probe is None:
            noisy = torch.cat(list(self._batches))
            direct = torch.cat([_direct(model, batch) for batch in self._batches])
            return self._take(Probe.draw(model.noise, noisy, direct))
        return self._probe

    def _take(self, whole: Probe) -> Probe:
        self._whole = whole
        self._noisy, self._shifted = (torch.split(each, len(self._batches[0])) for each in (whole.noisy, whole.shifted))
        self._probe, self._best_blur = whole.inside(self._margin + self._border), None
        return self._probe

    def _blur(self) -> Response:
        """The best blur; it is the same for all weights."""
        assert self._probe is not None
        assert self._whole is not None
        if self._best_blur is None:
            probe = self._probe
            tried = [
                Response(*(self._inside(each, self._margin) for each in (blur.estimate, blur.product)))
                for _, blur in blurs(self._whole.nothing_done)
            ]
            self._best_blur = min(tried, key=lambda blur: probe.difference(blur, probe.nothing_done).difference)
        return self._best_blur

    def _direct(self, model: CoModel, batches: Sequence[Tensor]) -> Tensor:
        whole = [model.noise.color(model.denoise(model.prepare(batch, self._margin))) for batch in batches]
        return self._inside(torch.cat(whole))

    def _inside(self, image: Tensor, margin: int = 0) -> Tensor:
        """Leave out the margin and the border of patches (B, 1, H, W)."""
        cut = slice(margin + self._border, -margin - self._border)
        return image[..., cut, cut]


def pairs_of(state: Sequence[tuple[Sequence[Tensor], Tensor]], device: torch.device) -> list[Pair]:
    """Pairs on a device, from their tensors."""
    return [(NetworkInput(*(each.to(device) for each in inputs)), clean.to(device)) for inputs, clean in state]


def _direct(model: CoModel, noisy: Tensor) -> Tensor:
    """The direct pass over patches (B, 1, H, W) whose sides, with their margin, need not be divisible."""
    height, width = noisy.shape[-2:]
    padded = F.pad(noisy, (0, -width % model.multiple, 0, -height % model.multiple), mode="reflect")
    return model.direct(padded)[..., :height, :width]
