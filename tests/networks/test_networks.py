"""The two networks are those of the papers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from napari_direct_denoiser.config import HDNConfig, UNetConfig
from napari_direct_denoiser.networks import LadderVAE, UNet
from napari_direct_denoiser.networks.blocks import GatedBlock, PlainBlock, SharedConvBlock, conv3
from napari_direct_denoiser.networks.ladder_vae import free_bits, normal_kl
from napari_direct_denoiser.presets import PRESETS

pytestmark = pytest.mark.usefixtures("device")

SMALL_HDN = HDNConfig(filters=(8, 8, 8), latent_channels=4, blocks=1, space_to_depth=2, gated=False)
GATED_HDN = HDNConfig(filters=(8, 8, 8), latent_channels=4, blocks=1, space_to_depth=1, gated=True, dropout=0.2)


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_paper_preset_has_the_published_sizes() -> None:
    model = PRESETS["paper"].model
    assert parameters(LadderVAE(model.hdn, 1)) == pytest.approx(7_301_697, rel=0.01)
    assert parameters(UNet(model.direct, 1)) == pytest.approx(11_764_577, rel=0.01)


def test_kl_of_known_gaussians() -> None:
    q_mean, q_log_variance, p_mean, p_log_variance = torch.randn(4, 1000)
    expected = kl_divergence(Normal(q_mean, (0.5 * q_log_variance).exp()), Normal(p_mean, (0.5 * p_log_variance).exp()))
    torch.testing.assert_close(normal_kl(q_mean, q_log_variance, p_mean, p_log_variance), expected)
    assert normal_kl(*torch.tensor([[1.0], [0.5], [1.0], [0.5]])).item() == 0


def test_free_bits_count_each_level_at_least() -> None:
    kl = torch.tensor([[0.2, 0.4], [3.0, 5.0]])  # (levels, batch)
    assert free_bits(kl, 1.0).item() == pytest.approx(1.0 + 4.0)
    assert free_bits(kl, 0.0).item() == pytest.approx(0.3 + 4.0)


@pytest.mark.parametrize("config", [SMALL_HDN, GATED_HDN])
def test_hdn_keeps_the_shape_and_gives_a_kl_for_every_level(config: HDNConfig) -> None:
    hdn = LadderVAE(config, 2)
    assert hdn.multiple == 8
    decoded = hdn(torch.randn(3, 2, 32, 40))
    assert decoded.signal.shape == (3, 1, 32, 40)
    assert decoded.kl.shape == (3, 3)
    assert (decoded.kl >= 0).all()


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator(torch.get_default_device()).manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("config", [SMALL_HDN, GATED_HDN])
def test_draws_of_one_image_differ_and_follow_the_seed(config: HDNConfig) -> None:
    hdn = LadderVAE(config, 1).eval()
    with torch.no_grad():
        features = hdn.encode(torch.randn(1, 1, 32, 32))
        first = hdn.decode(features, seeded(1, 2, 3, 4)).signal
        again = hdn.decode(features, seeded(1, 2, 3, 4)).signal
    assert first.shape == (4, 1, 32, 32)
    assert torch.equal(first, again)
    assert (first[0] - first[1]).abs().max() > 0
    with torch.no_grad():  # a draw is that of its generator, in whatever company
        torch.testing.assert_close(hdn.decode(features, seeded(3, 9)).signal[0], first[2])


@pytest.mark.parametrize("config", [SMALL_HDN, GATED_HDN])
@pytest.mark.parametrize("structured", [False, True])
def test_structured_hides_the_image_from_the_two_finest_levels(config: HDNConfig, structured: bool) -> None:
    torch.manual_seed(0)
    hdn = LadderVAE(config.model_copy(update={"structured": structured}), 1).eval()
    with torch.no_grad():
        features = hdn.encode(torch.randn(1, 1, 32, 32))
        expected = hdn.decode(features, seeded(1)).signal
        other = [f + torch.randn_like(f) if level < 2 else f for level, f in enumerate(features)]
        found = hdn.decode(other, seeded(1)).signal
    assert torch.equal(found, expected) == structured


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("space_to_depth", [1, 2])
def test_unet_keeps_the_shape(published: bool, space_to_depth: int) -> None:
    config = UNetConfig(filters=(8, 16, 16), blocks=1, space_to_depth=space_to_depth, published=published)
    unet = UNet(config, 2)
    assert unet.multiple == 4 * space_to_depth
    assert unet(torch.randn(2, 2, 32, 48)).shape == (2, 1, 32, 48)


def test_plain_block_starts_as_the_identity_and_can_learn() -> None:
    block, x = PlainBlock(4), torch.randn(1, 4, 8, 8)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.second.weight.grad is not None
    assert block.second.weight.grad.abs().max() > 0


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_reflect_as_those_of_torch(stride: int) -> None:
    ours = conv3(3, 4, stride=stride, padding_mode="reflect")
    theirs = torch.nn.Conv2d(3, 4, 3, stride=stride, padding=1, padding_mode="reflect")
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 6, 2)
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    "make", [lambda: GatedBlock(4, dropout=0.2), lambda: PlainBlock(4), lambda: SharedConvBlock(4)]
)
def test_blocks_that_save_memory_without_gradients_give_the_same(make: Callable[[], torch.nn.Module]) -> None:
    block = make()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)  # plain blocks begin as the identity
    x = torch.randn(2, 4, 6, 6)
    kept = x.clone()
    with_gradients = block.eval()(x)
    with torch.no_grad():
        torch.testing.assert_close(block(x), with_gradients.detach())
    assert torch.equal(x, kept)
