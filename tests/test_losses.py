"""Each loss learns the property of the denoising distribution that it is named for, while its samples are exact."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from napari_direct_denoiser.config import LOSSES, train_settings
from napari_direct_denoiser.errors import SettingError
from napari_direct_denoiser.losses import perceptual, pixel_loss

SHAPE = (1, 1, 4, 4)


def skewed(count: int) -> Tensor:
    """Gamma distribution of shape 4: mean 4, mode 3, median 3.672."""
    return torch.distributions.Gamma(4.0, 1.0).sample((count, *SHAPE[1:]))


def bimodal(count: int) -> Tensor:
    """Two normal distributions at 10 (65 %) and 14, of standard deviation 0.5."""
    first = torch.rand(count, *SHAPE[1:]) < 0.65
    return torch.where(first, 10.0, 14.0) + 0.5 * torch.randn(count, *SHAPE[1:])


def learned(loss: str, draw: Callable[[int], Tensor], steps: int = 600) -> float:
    """What a student with one weight for each pixel learns from samples, starting beside the mean."""
    torch.manual_seed(0)
    function = pixel_loss(loss)
    assert function is not None
    student = torch.nn.Parameter(draw(1000).mean(0, keepdim=True) + 1)
    optimizer = torch.optim.Adam([student], lr=0.2)
    variance = torch.full(SHAPE, 4.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 + math.cos(math.pi * step / steps)) + 1e-3
        error = student - draw(256)
        variance.lerp_(error.detach().square().mean(0, keepdim=True), 0.05)
        optimizer.zero_grad()
        function(error, variance.sqrt(), torch.tensor(step / steps)).backward()
        optimizer.step()
    return float(student.detach().mean())


@pytest.mark.parametrize(
    ("draw", "loss", "expected"),
    [
        (skewed, "l2", 4.0),
        (skewed, "l1", 3.672),
        (skewed, "tukey", 3.0),  # the mode
        (skewed, "quantile:0.05", 1.366),
        (skewed, "quantile:0.5", 3.672),
        (skewed, "quantile:0.95", 7.754),
        (bimodal, "l2", 11.4),
        (bimodal, "l1", 10.366),
        (bimodal, "tukey", 10.0),  # the higher mode, not the mean of both
        (bimodal, "quantile:0.95", 14.537),
    ],
)
def test_a_loss_learns_its_property_of_a_known_posterior(
    draw: Callable[[int], Tensor], loss: str, expected: float
) -> None:
    assert learned(loss, draw) == pytest.approx(expected, rel=0.02)


def test_tukey_begins_as_l2_and_ends_blind_for_far_samples() -> None:
    error, std = torch.tensor([0.1, -0.5, 1.0]), torch.tensor(1.0)
    tukey, l2 = pixel_loss("tukey"), pixel_loss("l2")
    assert tukey is not None
    assert l2 is not None
    begin, end = torch.tensor(0.0), torch.tensor(1.0)
    assert float(tukey(error, std, begin)) == pytest.approx(float(l2(error, std, begin)), rel=0.03)
    far = torch.tensor([3.0], requires_grad=True)
    tukey(far, std, end).backward()
    assert float(far.grad) == 0.0  # type: ignore[arg-type]


def test_perceptual_prefers_the_right_contrast_to_a_blur_of_the_same_distance() -> None:
    torch.manual_seed(0)
    clean = 20 * torch.rand(2, 1, 32, 32)
    blurred = clean.lerp(clean.mean(), 0.3)
    noisy = clean + 0.5 * (blurred - clean).abs().mean() * torch.randn(clean.shape).sign()
    noisy = clean + (noisy - clean) * (blurred - clean).abs().mean() / (noisy - clean).abs().mean()
    assert float(perceptual(clean, clean)) == pytest.approx(0, abs=1e-5)
    assert float(perceptual(noisy, clean)) < float(perceptual(blurred, clean))


def test_perceptual_compares_the_features_of_an_encoder() -> None:
    clean, prediction = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16, requires_grad=True)
    kernel = torch.randn(4, 1, 3, 3)

    def encode(image: Tensor) -> list[Tensor]:
        return [torch.nn.functional.conv2d(image, kernel)]

    assert float(perceptual(clean, clean, encode)) == pytest.approx(0, abs=1e-5)
    loss = perceptual(prediction, clean, encode)
    assert bool(loss > perceptual(prediction, clean))
    loss.backward()
    assert prediction.grad is not None
    assert bool(prediction.grad.abs().max() > 0)


def test_losses_of_the_settings_exist() -> None:
    for name in (*LOSSES, "quantile:0.5"):
        assert train_settings(loss=name).loss == name
        assert (pixel_loss(name) is None) == (name == "perceptual")


@pytest.mark.parametrize(
    "name", ["l3", "", "quantile", "quantile:", "quantile:1.5", "quantile:0", "quantile:nan", "L2"]
)
def test_unknown_losses_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(SettingError, match="Expected l2, l1, tukey, perceptual or quantile:Q"):
        train_settings(loss=name)
