"""All settings and their defaults: what a user can choose, and what networks are made of. `presets` has the numbers.

The docstring under a field is also its tooltip in napari and its ``--help`` text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from .errors import SettingError

Teacher = Literal["hdn", "divnoising"]
PresetName = Literal["quick", "balanced", "paper"]
PresetChoice = Literal["auto", "quick", "balanced", "paper"]
LOSSES = ("l2", "l1", "tukey", "perceptual", "quantile:0.05", "quantile:0.95")
"""Losses of the Direct Denoiser; any other quantile between 0 and 1 is one too. See `losses`."""
StudentSize = Literal["small", "standard", "large"]
Method = Literal["direct", "mean", "median", "mode", "sample", "std"]
Device = Literal["auto", "cpu", "cuda", "mps"]
ResultDtype = Literal["float32", "same"]
OmeZarrVersion = Literal["0.4", "0.5"]


MIN_SIDE = 8
"""Smallest width and height of a plane, pixels: of smaller ones the networks see mostly the reflected padding."""


def _known_loss(name: str) -> str:
    """Check the name of a loss."""
    if name not in LOSSES and not re.fullmatch(r"quantile:0?\.0*[1-9]\d*", name):
        message = "Expected l2, l1, tukey, perceptual or quantile:Q with Q between 0 and 1, such as quantile:0.05"
        raise PydanticCustomError("loss", message)
    return name


Loss = Annotated[str, AfterValidator(_known_loss)]


Channels = Annotated[int, Field(ge=1, le=1024)]
Levels = Annotated[tuple[Channels, ...], Field(min_length=1, max_length=8)]
Blocks = Annotated[int, Field(ge=1, le=8)]


class Config(BaseModel):
    """Base of all settings: immutable, described by attribute docstrings; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class TrainSettings(Config):
    """Settings of a training."""

    preset: PresetChoice = "auto"
    """Networks and length of training: quick (up to 5 minutes), balanced (the same networks on more patches, up to 30
    minutes: a little better), paper (the published networks: days on a CPU, a day on a GPU), or auto (quick)."""
    noise: str = "auto"
    """Noise model: auto, FILE, gaussian:SIGMA or poisson:GAIN,OFFSET,READ (counts), also with +x:C1,C2 and +y:C1,C2.
    auto estimates it from the images. Noise that is given too low leaves noise in the result, too high blurs it."""
    refine_noise: bool = False
    """Refit the noise model once during training, to the images as denoised so far. Where the automatic
    estimate fits, images get no better; try it where the noise has an unusual shape."""
    loss: Loss = "l2"
    """What the Direct Denoiser learns of the denoising distribution: l2 the mean, l1 the median, tukey the densest
    part (near the MAP), quantile:Q a quantile such as quantile:0.05; perceptual: a somewhat sharper image."""
    teacher: Teacher = "hdn"
    """Whose samples the Direct Denoiser learns from: hdn, or divnoising (one latent level: smaller, less sharp, and it
    starts from chance). Prefer hdn, unless you want to compare the two."""
    student_only: bool = False
    """Only the Direct Denoiser learns, from samples of a trained model that stays as it is: another loss, or other
    images of the same kind, within minutes."""
    student_size: StudentSize = "standard"
    """Size of a Direct Denoiser that learns alone: small has half of the preset's channels in each level and is faster,
    large twice as many. A new one begins from chance."""
    structured: bool = False
    """Remove structured noise that the noise model does not describe, such as short lines of a scanner (HDN 3-6). It
    costs fine detail: turn it on only where such lines are left."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Stop training after this many minutes; the preset's own limit if not given. More minutes give a better model, by
    less and less: the estimated gain shows when it no longer rises."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop training after this many steps; the preset's own limit if not given. Unlike minutes, steps give the same
    model on a slower or faster machine."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of all random numbers: the same seed, data and number of steps give the same model. Another seed gives a
    slightly different one, not a better one."""
    device: Device = "auto"
    """Where to compute: auto takes the fastest device that is there. cpu leaves the GPU to other programs, and is
    slower."""


def train_settings(**values: Any) -> TrainSettings:
    """Make settings; `SettingError` if a value makes no sense."""
    try:
        return TrainSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise SettingError(f"{name}: {first['msg']}, found {first['input']!r}: change it") from error


class DenoiseSettings(Config):
    """Settings of a denoising run."""

    method: Method = "direct"
    """direct (one pass), std (standard deviation of its error, the same pass), or posterior samples of HDN: their mean,
    their median, their mode (near the MAP), or sample (single ones)."""
    samples: int = Field(default=50, ge=1)
    """Number of posterior samples drawn from HDN. Time grows in proportion. More samples make the mean less noisy, by
    ever less: 10 or 100 samples show whether more would help."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the samples: the same seed draws the same samples. The direct pass does not depend on it."""
    dtype: ResultDtype = "float32"
    """Numbers of the result: float32, which loses nothing, or same: those of the image, rounded and clipped to their
    range, in half of the memory for 16 bits. A standard deviation is always float32."""


class DenoiseChoices(Config):
    """Further settings of the Denoise dock, beside `DenoiseSettings`."""

    direct_std: bool = True
    """Standard deviation of the error of the direct pass, pixel by pixel, which the same pass predicts: a map of where
    the result is uncertain, and by how many counts. It takes hardly any time, and as much memory as the result."""
    planes: Literal["all", "in view"] = "all"
    """All planes of the layer, or only the one that the sliders of the viewer point at, for a first look."""
    result: Literal["in memory", "as looked at", "zarr folder"] = "in memory"
    """In memory: all planes at once, four bytes a pixel as float32; as looked at: each plane is computed when the
    viewer shows it, so that nothing waits (direct pass only); zarr folder: on disk, plane by plane, for stacks larger
    than memory."""
    scheduler: str = ""
    """Address of a dask scheduler, such as tcp://10.0.0.5:8786: its workers denoise into the zarr folder. Empty: this
    computer does. The workers need this package, and the same folders as this computer."""
    mean: bool = True
    """Mean of the samples (MMSE): the highest PSNR that samples can give. The direct pass with the loss l2 learns it,
    and takes a fraction of the time."""
    median: bool = False
    """Median of the samples, pixel by pixel (MMAE): sharper edges than the mean, and it needs more memory."""
    mode: bool = False
    """Mode of the samples, pixel by pixel: the likeliest value (near the MAP), noisier than the mean."""
    std: bool = True
    """Standard deviation of the samples, pixel by pixel: a map of where they differ from each other. Smooth
    only with tens of samples."""
    single_samples: int = Field(default=0, ge=0)
    """How many of the samples to keep as a stack, each as large as the image; 0 for none. One sample is one possible
    image, with more detail and more error than the mean."""


class CompareSettings(Config):
    """Settings of a comparison of HDN with the direct pass."""

    samples: tuple[int, ...] = (1, 10, 100)
    """Numbers of samples of HDN whose means are compared with the direct pass, such as 1,10,100."""

    @field_validator("samples", mode="before")
    @classmethod
    def _rising(cls, value: str | Sequence[int]) -> tuple[int, ...]:
        try:
            counts = tuple(sorted({int(part) for part in (value.split(",") if isinstance(value, str) else value)}))
        except ValueError:
            counts = ()
        if not counts or counts[0] < 1:
            raise PydanticCustomError("samples", "Expected whole numbers of at least 1, such as 1,10,100")
        return counts


class HDNConfig(Config):
    """Shape of the ladder VAE (HDN)."""

    filters: Levels
    """Channels of each level, finest first; the finest level has half the sides of the image."""
    latent_channels: Channels
    """Channels of the latent variable of each level."""
    blocks: Blocks
    """Residual blocks of each level, in each direction."""
    space_to_depth: Literal[1, 2]
    """2 folds 2x2 pixels into channels before the first convolution, 1 begins at full resolution."""
    gated: bool
    """The published blocks (batch norm, ELU, dropout, gate) and merges; otherwise plain ones."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Part of the channels that gated blocks drop in training."""
    free_bits: float = Field(default=0.0, ge=0)
    """KL of a level, in nats a patch, below which it costs nothing more."""
    structured: bool = False
    """HDN 3-6: the two finest levels do not see the image."""


class DivNoisingConfig(Config):
    """Shape of the flat VAE (DivNoising)."""

    filters: Levels
    """Channels of each level, finest first; the finest level has half the sides of the image."""
    latent_channels: Channels
    """Channels of the latent variable, which has the sides of the coarsest level."""
    blocks: Blocks = 1
    """Residual blocks of each level of the encoder and of the decoder."""
    published: bool = False
    """The published convolutions without residual blocks; otherwise 2x2 pixels are folded into channels first."""

    free_bits: ClassVar[float] = 0.0
    structured: ClassVar[bool] = False

    @property
    def space_to_depth(self) -> int:
        """How many pixels along each axis are folded into channels before the first convolution."""
        return 1 if self.published else 2


class UNetConfig(Config):
    """Shape of the UNet (Direct Denoiser)."""

    filters: Levels
    """Channels of each level, finest first."""
    blocks: Blocks
    """Residual blocks of each level, in each direction."""
    space_to_depth: Literal[1, 2]
    """2 folds 2x2 pixels into channels before the first convolution, 1 begins at full resolution."""
    published: bool
    """The published blocks: shared convolutions, reflect padding, concatenated skips."""
    std: bool = False
    """Predict the standard deviation of the error too, in the same pass. Models of older versions do not."""


class ModelConfig(Config):
    """Both networks and what they see and learn."""

    hdn: HDNConfig | DivNoisingConfig
    """The teacher, whose samples the Direct Denoiser learns from: HDN, or DivNoising."""
    direct: UNetConfig
    loss: Loss = "l2"
    """What the Direct Denoiser learns; see `TrainSettings.loss`."""
    units: Literal["noise", "image"]
    """What the networks see: the image in units of its noise with blurred copies, or as the paper with mean 0 and
    deviation 1."""
