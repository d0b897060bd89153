"""DivNoising: one latent level with a standard normal prior."""

from __future__ import annotations

import pytest
import torch

from napari_direct_denoiser.config import DivNoisingConfig, ModelConfig
from napari_direct_denoiser.networks import FlatVAE
from napari_direct_denoiser.presets import PRESETS

CONFIGS = {name: PRESETS[name].divnoising for name in ("quick", "paper")}  # type: ignore[index]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_one_latent_level_decodes_to_the_sides_of_the_image(config: DivNoisingConfig) -> None:
    network = FlatVAE(config, in_channels=1)
    x = torch.randn(2, 1, 4 * network.multiple, 3 * network.multiple)
    decoded = network(x)
    assert decoded.signal.shape == x.shape
    assert decoded.kl.shape == (1, 2)
    assert bool((decoded.kl >= 0).all())


def test_the_published_network_has_its_published_size() -> None:
    """Two levels of 32 and 64 filters, 64 latents: counted in juglab/DivNoising, nets/lightningmodel.py, n_depth=2."""
    network = FlatVAE(PRESETS["paper"].divnoising, in_channels=1)
    encoder = (9 * 1 * 32 + 32) + (9 * 32 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 64 + 64)
    latents = 2 * (9 * 64 * 64 + 64)
    coarse = (9 * 64 * 64 + 64) + (9 * 64 * 64 + 64) + (4 * 64 * 64 + 64)
    fine = (9 * 64 * 32 + 32) + (9 * 32 * 32 + 32) + (4 * 32 * 32 + 32)
    head = 9 * 32 + 1
    assert sum(p.numel() for p in network.parameters()) == encoder + latents + coarse + fine + head


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_seed_draws_the_same_sample_alone_and_among_others(config: DivNoisingConfig) -> None:
    network = FlatVAE(config, in_channels=1).eval()
    with torch.no_grad():
        features = network.encode(torch.randn(1, 1, 16, 16))
        several = network.decode(features, [torch.Generator().manual_seed(seed) for seed in (1, 2)], with_kl=False)
        alone = network.decode(features, [torch.Generator().manual_seed(2)], with_kl=False)
    torch.testing.assert_close(several.signal[1:], alone.signal)
    assert not torch.equal(several.signal[0], several.signal[1])


def test_the_decoder_sees_nothing_but_the_latents() -> None:
    network = FlatVAE(PRESETS["quick"].divnoising, in_channels=1).eval()
    torch.nn.init.zeros_(network.posterior.weight)  # the posterior is the same for every image
    one, other = (network(torch.randn(1, 1, 16, 16), torch.Generator().manual_seed(0)).signal for _ in range(2))
    torch.testing.assert_close(one, other)


def test_a_model_file_tells_which_teacher_it_has() -> None:
    for hdn in (PRESETS["quick"].model.hdn, PRESETS["quick"].divnoising):
        config = PRESETS["quick"].model.model_copy(update={"hdn": hdn})
        assert ModelConfig.model_validate_json(config.model_dump_json()) == config
