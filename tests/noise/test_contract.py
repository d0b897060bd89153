"""What every noise model promises: density, samples, variance, gradient and document belong together.

A new noise model is covered by its line in EXAMPLES of conftest.py.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import HistogramNoise, NoiseModel, fit_noise, from_document
from napari_direct_denoiser.noise.correlated import CorrelatedNoise
from napari_direct_denoiser.normalization import anscombe


def seeded(seed: int) -> torch.Generator:
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def signals(model: NoiseModel) -> Tensor:
    """Signals (counts) at which the model is tried: within its range, or from the offset to 3000 counts above."""
    low, high = model.signal_range or (getattr(model, "offset", 0.0), 3000.0)
    return low + (high - low) * torch.tensor([0.021, 0.123, 0.517, 0.873], dtype=torch.float64)


def alone(model: NoiseModel, *values: Tensor) -> tuple[Tensor, ...]:
    """Values of any shape; for correlated noise, which takes images, each as an image of one pixel."""
    return tuple(value[..., None, None] if isinstance(model, CorrelatedNoise) else value for value in values)


def level(model: NoiseModel, signal: float, pixels: int) -> Tensor:
    """So many pixels of one signal; for correlated noise as one square image."""
    side = math.isqrt(pixels)
    return torch.full((side, side) if isinstance(model, CorrelatedNoise) else (pixels,), signal)


def test_every_kind_has_an_example(examples: list[NoiseModel]) -> None:
    own = {kind for kind, model in NoiseModel.kinds.items() if model.__module__.startswith("napari_direct_denoiser")}
    assert own == {example.kind for example in examples}, "add the new noise model to EXAMPLES"


def test_samples_have_mean_signal_and_the_variance_of_the_model(model: NoiseModel) -> None:
    for signal in signals(model).tolist():
        drawn = model.sample(level(model, signal, 200_000), seeded(2)).double()
        variance = float(model.variance(torch.tensor([signal])))
        assert float(drawn.mean()) == pytest.approx(signal, abs=0.08 * variance**0.5)
        assert float((drawn - signal).square().mean()) == pytest.approx(variance, rel=0.06)


def test_samples_come_from_the_density(model: NoiseModel) -> None:
    """The density of correlated noise is that of a pixel without the noise of those before it."""
    for signal in signals(model).tolist():
        clean = level(model, signal, 20_000)
        drawn = model.sample(clean, seeded(0)).double()
        if isinstance(model, CorrelatedNoise):
            drawn = signal + model.whiten(drawn - signal)[model.reach :, model.reach : -model.reach].flatten()
        drawn = drawn.cpu().numpy()
        x = torch.linspace(float(drawn.min()) - 10, float(drawn.max()) + 10, 40_001, dtype=torch.float64)
        density = model.log_prob(*alone(model, x, torch.full_like(x, signal))).exp().cpu().numpy().ravel()
        cumulative = np.cumsum(density) * float(x[1] - x[0])
        assert cumulative[-1] == pytest.approx(1, abs=0.01)
        assert stats.kstest(drawn, lambda v, x=x, c=cumulative: np.interp(v, x.cpu().numpy(), c)).pvalue > 1e-3


def test_samples_are_drawn_from_the_generator_alone(model: NoiseModel) -> None:
    (signal,) = alone(model, signals(model).float())
    before = torch.get_rng_state()
    one, same, other = (model.sample(signal, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_precision_is_double_if_asked_for_and_single_otherwise(model: NoiseModel) -> None:
    (signal,) = alone(model, signals(model))
    for given, expected in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.int32, torch.float32),
    ):
        values = signal.to(given)
        assert model.log_prob(values, values).dtype == expected
        assert model.variance(values).dtype == expected


def test_variance_stays_positive_at_any_signal(model: NoiseModel) -> None:
    signal = torch.tensor([-3e38, -1e6, -1.0, 0.0, 1.0, 1e3, 1e6, 3e38])
    variance = model.variance(signal)
    assert variance.isfinite().all()
    assert (variance > 0).all()


def test_density_and_its_gradient_stay_finite_far_outside(model: NoiseModel) -> None:
    noisy = torch.tensor([-3e38, 0.0, 900.0, 999.0, 1000.0, 5e4, 1e6, 3e38]).repeat(8)
    signal = torch.tensor([-3e38, -1e5, 0.0, 999.0, 1000.0, 3e4, 1e6, 3e38]).repeat_interleave(8)
    noisy, signal = alone(model, noisy, signal)
    signal.requires_grad_()
    log_prob = model.log_prob(noisy, signal)
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert signal.grad is not None
    assert signal.grad.isfinite().all()


def state(model: NoiseModel) -> dict[str, object]:
    """All public fields and buffers of a model, as plain Python."""
    fields = {name: value for name, value in vars(model).items() if not name.startswith("_") and name != "training"}
    fields = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}
    buffers = {name: buffer.tolist() for name, buffer in model.named_buffers()}
    return {**fields, **buffers, "range": model.signal_range}


def test_document_rebuilds_every_field(model: NoiseModel) -> None:
    device = torch.get_default_device()
    with torch.device("cpu"):  # where the examples were made: a GPU rounds in another way
        again = from_document(json.loads(json.dumps(model.document()))).to(device)
    assert type(again) is type(model)
    assert state(again) == state(model)
    # the last digit of a fit depends on where in memory its numbers are
    assert again.linear_variance() == pytest.approx(model.linear_variance(), rel=1e-9)
    assert again.document() == model.document()
    noisy, signal = alone(model, torch.linspace(90, 900, 50), torch.linspace(100, 800, 50))
    assert torch.equal(again.log_prob(noisy, signal), model.log_prob(noisy, signal))


def test_text_form_makes_the_model(examples: list[NoiseModel]) -> None:
    images = [Frames(simulate(planes=2, size=96).noisy)]
    for example in examples:
        document = {**example.document(), "skew": 1.0} if example.kind == "poisson" else example.document()
        numbers = [str(value) for name, value in document.items() if name not in ("kind", "skew")]
        if example.form:
            assert fit_noise(f"{example.kind}:{','.join(numbers)}", images).model.document() == document


def test_variance_as_a_line_makes_the_std_one_everywhere(examples: list[NoiseModel]) -> None:
    """After the Anscombe transform with `linear_variance`."""
    for model in examples:
        tolerance = {"mixture": 0.35}.get(model.kind, 0.03)  # a line fits the variance of this mixture roughly
        for signal in (signals(model)[1:] if model.kind in ("poisson", "pulses") else signals(model)).tolist():
            drawn = model.sample(level(model, signal, 50_000), seeded(1))
            assert float(anscombe(drawn, *model.linear_variance()).std()) == pytest.approx(1, abs=tolerance)


def test_description_is_one_line(model: NoiseModel) -> None:
    assert len(model.describe().splitlines()) == 1


def gradients(model: NoiseModel, noisy: Tensor, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log density and its derivatives by the signal and by the noisy value, as float64."""
    noisy, signal = noisy.clone().requires_grad_(), signal.clone().requires_grad_()
    value = model.log_prob(noisy, signal)
    by_noisy, by_signal = torch.autograd.grad(value.sum(), (noisy, signal), allow_unused=True, materialize_grads=True)
    return value.detach().double(), by_signal.double(), by_noisy.double()


def test_gradient_is_that_of_double_precision_and_of_finite_differences(model: NoiseModel) -> None:
    signal = signals(model).float()[:, None]
    std = model.variance(signal).sqrt()
    noisy = signal + std * torch.tensor([-30.0, -6, -2, -0.31, 0.013, 0.7, 2, 6, 9, 30])
    if isinstance(model, HistogramNoise):  # the density jumps between bins: go to their middles
        noisy = (noisy / model.width).floor() * model.width + model.width / 2
    noisy, signal, std = alone(model, noisy, signal.expand_as(noisy), std)
    check_gradient(model, noisy, signal, std)


def check_gradient(model: NoiseModel, noisy: Tensor, signal: Tensor, std: Tensor, step: Tensor | None = None) -> None:
    """Compare with the same in float64, and that with central differences: in units of the gradient's usual size."""
    single = gradients(model, noisy, signal)
    value, by_signal, by_noisy = gradients(model, noisy.double(), signal.double())
    torch.testing.assert_close(single[0], value, rtol=1e-5, atol=1e-5)
    usual = 1 / std.double()
    for found, exact in ((single[1], by_signal), (single[2], by_noisy)):
        assert float(((found - exact).abs() / (exact.abs() + usual)).max()) < 1e-4
    step = 1e-5 * std.double() if step is None else step
    for index, exact in ((1, by_signal), (0, by_noisy)):
        moved = [
            model.log_prob(noisy.double() + sign * step * (1 - index), signal.double() + sign * step * index)
            for sign in (-1, 1)
        ]
        difference = (moved[1] - moved[0]) / (2 * step)
        assert float(((difference - exact).abs() / (exact.abs() + usual)).max()) < 1e-4


ELECTRONS = [-50.0, -1.0, -0.05, 0.0, 0.013, 0.1, 0.5, 1, 2, 10, 100, 1e3, 1e4, 6e4]
RESIDUALS = [-30.0, -8, -3, -1, -0.3, 0.0, 0.013, 0.3, 1, 3, 8, 12, 30, 300]


@pytest.mark.parametrize("gain", [0.01, 1.0, 2.0, 100.0])
@pytest.mark.parametrize("read", [0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
@pytest.mark.parametrize("skew", [0.7, 1.0, 1.7])
def test_gradient_of_poisson_gaussian_noise(gain: float, read: float, skew: float) -> None:
    """Any gain (counts), read noise (electrons), signal and residual (standard deviations)."""
    model = NoiseModel.kinds["poisson"](gain, 100.0, read * gain, skew)
    signal = (100 + gain * torch.tensor(ELECTRONS))[:, None]
    std = model.variance(signal).sqrt()
    noisy = signal + std * torch.tensor(RESIDUALS)
    step = 1e-5 * torch.minimum(std.double() / gain, torch.tensor(ELECTRONS)[:, None].abs() + 0.02) * gain
    check_gradient(model, noisy, signal.expand_as(noisy), std, step)


@pytest.mark.parametrize("std", [0.01, 0.1, 1.0, 10.0, 300.0])
@pytest.mark.parametrize("kind", ["gaussian", "student", "mixture", "histogram"])
def test_gradient_of_noise_of_any_width(kind: str, std: float, mixture_example, histogram_example) -> None:
    factor = std / 12  # about the width of the examples
    if kind == "mixture":
        weight = mixture_example.weight.clone()
        weight[:3] *= factor
        weight[3:6] += 2 * np.log(factor)
        model = NoiseModel.kinds[kind](weight, 200.0 * factor, 1200.0 * factor, 4.0 * factor**2)
    elif kind == "histogram":
        model = NoiseModel.kinds[kind](histogram_example.histogram, 0.0, 400.0 * factor)
    else:
        model = NoiseModel.kinds[kind](std, *([4.0] if kind == "student" else []))
    test_gradient_is_that_of_double_precision_and_of_finite_differences(model)
