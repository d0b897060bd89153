"""The networks, in normalised units: the VAE (HDN or DivNoising) and the UNet (Direct Denoiser)."""

from .flat_vae import FlatVAE
from .ladder_vae import LadderVAE
from .unet import UNet

__all__ = ["FlatVAE", "LadderVAE", "UNet"]
