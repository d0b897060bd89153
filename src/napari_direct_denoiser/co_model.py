"""HDN, the Direct Denoiser, the noise model and the normalization, as one model in image units.

Both networks work on whitened images, whose noise is independent from pixel to pixel (`NoiseModel.whiten`; an image
with such noise stays as it is). What they make is returned to counts by `NoiseModel.color`. Both filters are linear,
so the mean of whitened clean images gives the mean of clean images. The standard deviation that the Direct Denoiser
predicts is that of its error in counts.

Only this module and `normalization` know how pixels are normalized. One training step of the two networks is `hdn_loss`
followed by `direct_loss` (Salmon & Krull 2023, section 4).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .calibration import Calibration
from .config import Device, HDNConfig, ModelConfig, UNetConfig
from .losses import perceptual, pixel_loss
from .networks import FlatVAE, LadderVAE, UNet
from .networks.ladder_vae import free_bits
from .noise import NoiseModel
from .normalization import VIEWS, NetworkInput, Normalization
from .system import Compute, resolve

Teacher = LadderVAE | FlatVAE

_MEAN_WEIGHT = 10.0  # nats for a squared distance of one variance of the noise; 2 to 100 do nearly as well


@dataclass(frozen=True)
class HDNLoss:
    """Loss of HDN and its parts, nats per pixel, and the clean image that was drawn for it."""

    loss: Tensor
    """The negative ELBO."""
    reconstruction: Tensor
    kl: Tensor
    """KL of every level, (levels,), before free bits."""
    of_mean: Tensor
    """Loss of the mean of samples, to be added to the negative ELBO; 0 if it has no target."""
    sample: Tensor
    """(B, 1, H, W), whitened and unbiased, without gradient: the Direct Denoiser's target."""
    signal: Tensor
    """The same as HDN decoded it, before its bias was corrected."""


class CoModel(nn.Module):
    """The two networks on one device. Planes come and go as float32 (B, 1, H, W) in image units."""

    def __init__(self, config: ModelConfig, noise: NoiseModel, normalization: Normalization) -> None:
        super().__init__()
        self.config = config
        self.normalization = normalization
        views = VIEWS[config.units]
        self.hdn = LadderVAE(config.hdn, views) if isinstance(config.hdn, HDNConfig) else FlatVAE(config.hdn, views)
        self.unet = self.new_unet(config.direct)
        self.noise = noise
        self.calibration = Calibration()
        self._encoder: tuple[Teacher, ...] = ()  # frozen: in a tuple, it is not a part of this module
        self.compute = Compute(torch.device("cpu"), torch.float32, torch.contiguous_format)

    @classmethod
    def initialized(cls, config: ModelConfig, noise: NoiseModel, normalization: Normalization, seed: int) -> CoModel:
        """Make a model whose initial weights depend on `seed` alone; the global random state stays as it is."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return cls(config, noise, normalization)

    def new_unet(self, config: UNetConfig) -> UNet:
        """Make an untrained Direct Denoiser that sees what this model prepares."""
        return UNet(config, VIEWS[self.config.units])

    def with_student(self, unet: UNet, loss: str, calibration: Calibration) -> CoModel:
        """Give the model of the same teacher with another Direct Denoiser; they share the networks.

        The calibration is that of what it predicts. That of the teacher's samples stays.
        """
        config = self.config.model_copy(update={"direct": unet.config, "loss": loss})
        with torch.device("meta"):  # networks without memory, which are replaced
            other = CoModel(config, self.noise, self.normalization)
        other.hdn, other.unet, other.compute = self.hdn, unet, self.compute
        other.calibration = calibration.model_copy(update={"samples": self.calibration.samples})
        other.to(self.compute.device).to(memory_format=self.compute.memory_format)  # type: ignore[call-overload]
        return other.train(self.training)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.compute.device

    @property
    def has_std(self) -> bool:
        """Whether the direct pass gives the standard deviation of its error; models of older versions do not."""
        return self.config.direct.std

    @property
    def predicts_quantile(self) -> bool:
        """Whether the direct prediction is a quantile, and no estimate of the clean image."""
        return self.config.loss.startswith("quantile")

    @property
    def multiple(self) -> int:
        """Sides of planes must be divisible by this."""
        return max(self.hdn.multiple, self.unet.multiple)

    @property
    def halo(self) -> int:
        """Pixels of context that a tile needs on each side: others change the direct pass by under 1e-3 of the noise.

        What is beyond the reach of the UNet can only enter through the blurred copies. Measured with a trained network
        of `quick`, in standard deviations of the noise: 80 pixels leave 8e-3, 96 7e-4, 112 (its reach) 2e-6, which is
        rounding.
        """
        context = max(2 * self.hdn.multiple, self.unet.reach) + 2 * self.noise.reach
        return self.multiple * math.ceil(context / self.multiple)

    @property
    def pixel_bytes(self) -> int:
        """Memory that predicting takes for each pixel at work, about; half as much in bfloat16."""
        widest = max(each.filters[0] // each.space_to_depth**2 for each in (self.config.hdn, self.config.direct))
        return 36 * widest + 48 * VIEWS[self.config.units]

    def to_device(self, device: Device) -> CoModel:
        """Move to a device of that name, at the precision that it gains by."""
        self.compute = resolve(device)
        self.to(self.compute.device)
        self.to(memory_format=self.compute.memory_format)  # type: ignore[call-overload]
        return self

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Context in which the model is in evaluation mode."""
        training = self.training  # eval visits all layers, which takes as long as a small plane
        if training:
            self.eval()
        try:
            yield
        finally:
            if training:
                self.train()

    def change_noise(self, noise: NoiseModel) -> None:
        """From now on, the noise is that of another model, which is moved to the device."""
        noise.to(self.compute.device).to(memory_format=self.compute.memory_format)  # type: ignore[call-overload]
        self.noise = noise

    def prepare(self, noisy: Tensor, margin: int = 0) -> NetworkInput:
        """Prepare (B, 1, H, W) counts for both networks; see `whiten`."""
        return self.prepare_white(self.whiten(noisy, margin))

    def whiten(self, noisy: Tensor, margin: int = 0) -> Tensor:
        """Whiten the noise of (B, 1, H, W) counts, and cut off a margin on every side that served as context."""
        white = self.noise.whiten(noisy)
        return white[..., margin:-margin, margin:-margin] if margin else white

    def prepare_white(self, white: Tensor) -> NetworkInput:
        """Prepare (B, 1, H, W) with independent noise."""
        inputs = self.normalization.prepare(white)
        return inputs._replace(views=inputs.views.contiguous(memory_format=self.compute.memory_format))

    def hdn_loss(
        self, inputs: NetworkInput, generator: torch.Generator | None = None, mean: Tensor | None = None
    ) -> HDNLoss:
        """Draw a posterior sample for each patch and compute the negative ELBO (eq. 3), nats per pixel.

        Parameters
        ----------
        mean
            (B, 1, H, W), whitened, without gradient: target of the mean of samples; see `_mean_loss`.
        """
        with self.compute.autocast():
            encoding = self.hdn.encode(inputs.views)
            decoded = self.hdn.decode(encoding, generator)
        signal = self.normalization.signal(decoded.signal.float())
        reconstruction = -self.noise.white_log_prob(inputs.noisy, signal).mean()
        pixels = signal.shape[-1] * signal.shape[-2]
        kl = free_bits(decoded.kl, self.config.hdn.free_bits) / pixels
        of_mean = signal.new_zeros(()) if mean is None else self._mean_loss(signal, encoding, generator, mean)
        decoded_kl, signal = decoded.kl.detach().mean(1) / pixels, signal.detach()
        sample = self.normalization.unbiased(signal)
        return HDNLoss(reconstruction + kl, reconstruction.detach(), decoded_kl, of_mean, sample, signal)

    def _mean_loss(
        self, signal: Tensor, encoding: Sequence[Tensor], generator: torch.Generator | None, mean: Tensor
    ) -> Tensor:
        """Squared distance of the mean of all samples from `mean`, nats per pixel.

        It is the mean of the product of the distances of two samples. Their variance has no part in it, and stays what
        the likelihood makes it.
        """
        with torch.no_grad(), self.compute.autocast():  # the gradient of one is half of that of both
            other = self.normalization.signal(self.hdn.decode(encoding, generator, with_kl=False).signal.float())
        one, two = (self.noise.color(sample - mean) / self.normalization.unit for sample in (signal, other))
        return _MEAN_WEIGHT * (one * two).mean()

    def correct_bias(self, scale: float, shift: float) -> None:
        """From now on, samples of HDN are `scale` times what it decodes, plus `shift` counts."""
        self.normalization = self.normalization.model_copy(update={"hdn_scale": scale, "hdn_shift": shift})

    def take(self, other: CoModel) -> None:
        """Copy both networks of a model of the same images."""
        self.unet.load_state_dict(other.unet.state_dict())
        self.calibration = other.calibration
        self.take_hdn(other)

    def take_hdn(self, other: CoModel) -> None:
        """Copy the weights of HDN, and the correction of its bias, from a model of the same images."""
        self.hdn.load_state_dict(other.hdn.state_dict())
        self.correct_bias(other.normalization.hdn_scale, other.normalization.hdn_shift)

    def direct_loss(self, inputs: NetworkInput, clean: Tensor, fraction: Tensor | None = None) -> Tensor:
        """Loss of the direct prediction of a whitened clean image (eq. 7), in `Normalization.unit`; see `losses`.

        Images are compared in counts, where the error of neighbours adds up as their noise does. Some losses depend on
        the fraction of the training that is done, a number; all of it if not given.
        """
        return self._loss(self.noise.color(self.denoise(inputs) - clean), clean, None, fraction)

    def direct_losses(
        self, inputs: NetworkInput, clean: Tensor, fraction: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`direct_loss`, and the negative log-likelihood of the error, which trains the predicted standard deviation.

        The error is that in counts, taken as normally distributed around 0. The likelihood has no gradient but to the
        head that predicts the standard deviation. Where `clean` is a posterior sample that was drawn for the noisy
        image itself, the error contains the variance of the posterior, which is the uncertainty that HDN sees.
        """
        denoised, std = self.denoise_with_std(inputs)
        error = self.noise.color(denoised - clean)
        likelihood = std.log() + 0.5 * (error.detach() / std).square()
        loss = self._loss(error, clean, std.detach(), fraction)
        return loss, likelihood.mean() - math.log(self.normalization.unit)

    def noise2noise_loss(self, noisy: Tensor, others: Tensor, margin: int = 0) -> Tensor:
        """Mean squared error of the direct prediction against other frames of the scene, in `Normalization.unit`^2.

        The noise of both is independent, so that the mean of the clean image is learned (Lehtinen et al. 2018).

        Parameters
        ----------
        noisy, others
            (B, 1, H, W) counts, with a margin on every side. Others are not compared where they are NaN.
        """
        error = self.denoise(self.prepare(noisy, margin)) - self.whiten(others, margin)
        return (self.noise.color(error.nan_to_num(0.0)) / self.normalization.unit).square().mean()

    def total_direct_loss(
        self, inputs: NetworkInput, clean: Tensor, fraction: Tensor, margin: int, *frames: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum of all losses of the Direct Denoiser, with `noise2noise_loss` if there are frames; and `direct_loss`."""
        of_frames = self.noise2noise_loss(frames[0], frames[1], margin) if frames else 0.0
        if not self.has_std:
            loss = self.direct_loss(inputs, clean, fraction)
            return loss + of_frames, loss
        # the second has a gradient to the second head alone
        loss, std_loss = self.direct_losses(inputs, clean, fraction)
        return loss + std_loss + of_frames, loss

    @property
    def encoder(self) -> Teacher | None:
        """The network whose features the loss compares; None if it compares none."""
        return self._encoder[0] if self._encoder else None

    def freeze_encoder(self, hdn: Teacher) -> None:
        """Compare features of this network, as it is now, if the loss compares features."""
        if self.config.loss == "perceptual":
            self._encoder = (copy.deepcopy(hdn).eval().requires_grad_(False),)

    def _loss(self, error: Tensor, clean: Tensor, std: Tensor | None, fraction: Tensor | None) -> Tensor:
        """The loss of the settings, of an error in counts and a whitened clean image.

        The standard deviation of the error is that of the batch if not given.
        """
        unit, loss = self.normalization.unit, pixel_loss(self.config.loss)
        error = error / unit
        if loss is not None:
            std = error.detach().square().mean().sqrt() if std is None else std / unit
            return loss(error, std, error.new_ones(()) if fraction is None else fraction)
        target = self.noise.color(clean) / unit
        return perceptual(target + error, target, self._features if self._encoder else None)

    def _features(self, image: Tensor) -> list[Tensor]:
        """Features of an image in units of the noise at every level of the frozen encoder."""
        views = self.prepare_white(self.normalization.unit * image).views
        with self.compute.autocast():
            features: list[Tensor] = self._encoder[0].encode(views)
        return features

    def direct(self, noisy: Tensor) -> Tensor:
        """Denoise (B, 1, H, W) counts in one pass."""
        return self.calibration.unbiased(self.noise.color(self.denoise(self.prepare(noisy))))

    def direct_with_std(self, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """`direct`, and the standard deviation of its error from the same pass, both (B, 1, H, W) counts."""
        denoised, std = self.denoise_with_std(self.prepare(noisy))
        direct = self.calibration.unbiased(self.noise.color(denoised))
        return direct, self.calibration.corrected(std, direct)

    def denoise(self, inputs: NetworkInput) -> Tensor:
        """The direct pass over a prepared image; the result is whitened, as the input is."""
        with self.compute.autocast():
            predicted: Tensor = self.unet(inputs.views)
        return inputs.base + inputs.step * predicted.float()

    def denoise_with_std(self, inputs: NetworkInput) -> tuple[Tensor, Tensor]:
        """`denoise`, and the standard deviation of the error of `direct`, counts, as predicted: not calibrated."""
        with self.compute.autocast():
            predicted, log_std = self.unet.with_std(inputs.views)
        std = self.noise.energy**0.5 * self.normalization.error_std(inputs, log_std.float())
        return inputs.base + inputs.step * predicted.float(), std

    def encode(self, noisy: Tensor) -> list[Tensor]:
        """Bottom-up pass of HDN over (1, 1, H, W): what `sample` needs, once a tile."""
        views = self.prepare(noisy).views
        with self.compute.autocast():
            features: list[Tensor] = self.hdn.encode(views)
        return features

    def sample(self, encoding: Sequence[Tensor], generators: Sequence[torch.Generator]) -> Tensor:
        """Draw a clean image in counts with each generator (N, 1, H, W) for the plane that was encoded."""
        with self.compute.autocast():
            decoded = self.hdn.decode(encoding, generators, with_kl=False)
        return self.noise.color(self.normalization.unbiased(self.normalization.signal(decoded.signal.float())))
