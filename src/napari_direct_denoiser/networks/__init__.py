"""The two networks: the ladder VAE (HDN) and the UNet (Direct Denoiser), in normalised units."""

from .ladder_vae import LadderVAE
from .unet import UNet

__all__ = ["LadderVAE", "UNet"]
