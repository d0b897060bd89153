"""The presets: networks and schedules that belong together, and their numbers."""

from __future__ import annotations

from typing import Literal

from .config import Config, DivNoisingConfig, HDNConfig, ModelConfig, PresetName, TrainSettings, UNetConfig
from .errors import SettingError


class ScheduleConfig(Config):
    """How a model is trained."""

    patch: int = 64
    """Side of the training patches, pixels."""
    batch: int
    """Patches a step."""
    micro_batch: int
    """Patches that pass the networks at a time; gradients are summed over a step."""
    side_by_side: bool = False
    """On a CPU, train both networks at the same time, each with half of the threads: small networks gain by that."""
    optimizer: Literal["adam", "adamax"]
    """Optimizer; each network has its own."""
    hdn_rate: float
    """Learning rate of HDN."""
    direct_rate: float
    """Learning rate of the Direct Denoiser."""
    anneal: Literal["budget", "plateau"]
    """budget: cosine over the budget. plateau: halved after `patience` validations without a better one."""
    ema_decay: float
    """Decay per step of the moving average of the weights, which is the model that is kept; 0 keeps the last."""
    resample_noise: bool = False
    """Pair the target of the Direct Denoiser with noise drawn anew, instead of the noisy image it was drawn for."""
    learn_frames: bool = False
    """Where planes are frames of a static scene, the Direct Denoiser also learns the others from each (Noise2Noise)."""
    redrawn_every: int = 0
    """Every how many steps HDN takes images with noise drawn anew, not real ones; 0 for never. Needs a good start."""
    self_target_weight: float = 0.0
    """Share of the Direct Denoiser's own prediction in its target; the rest is a sample of HDN."""
    student_only_fraction: float = 0.0
    """Last part of the budget, in which HDN is frozen and only the Direct Denoiser learns."""
    max_minutes: float | None
    """Time limit if neither limit is given."""
    max_steps: int | None
    """Step limit if neither limit is given: a fast machine is done sooner, at the same quality."""
    validate_every: int
    """Steps between validations (an epoch)."""
    patience: int
    """Validations without a better one after which the learning rates are halved (plateau)."""
    stop_after: int | None
    """Validations without a better one after which training stops; None to use the whole budget."""


class Preset(Config):
    """Networks and schedule that belong together."""

    model: ModelConfig
    schedule: ScheduleConfig
    divnoising: DivNoisingConfig
    """The teacher instead of HDN, if DivNoising is wanted."""
    pretrained: bool = False
    """Start from the weights that come with the package, learned on simulated images, and not from chance."""

    def networks(self, settings: TrainSettings) -> ModelConfig:
        """Networks and loss as the settings want them; `SettingError` if they contradict each other."""
        if settings.student_only or settings.student_size != "standard":
            raise SettingError(
                "Expected a trained model as teacher of a Direct Denoiser that learns alone, or is small or large, "
                "found none: give a model file as teacher, or continue a model with student_only"
            )
        hdn: HDNConfig | DivNoisingConfig = self.model.hdn
        if settings.teacher == "divnoising":
            if settings.structured:
                raise SettingError(
                    "Expected HDN as teacher for structured noise, found divnoising: choose the teacher hdn, or leave "
                    "structured out"
                )
            hdn = self.divnoising
        elif settings.structured:
            hdn = self.model.hdn.model_copy(update={"structured": True})
        return self.model.model_copy(update={"loss": settings.loss, "hdn": hdn})


_FAST_MODEL = ModelConfig(
    hdn=HDNConfig(filters=(32, 64, 64, 64), latent_channels=16, blocks=1, space_to_depth=2, gated=False),
    direct=UNetConfig(filters=(32, 64, 64, 64), blocks=1, space_to_depth=2, published=False, std=True),
    units="noise",
)

_FAST_DIVNOISING = DivNoisingConfig(filters=(64, 64), latent_channels=32, blocks=2)

_QUICK_SCHEDULE = ScheduleConfig(
    batch=4,
    micro_batch=4,
    side_by_side=True,
    optimizer="adam",
    hdn_rate=3e-4,
    direct_rate=5e-4,
    anneal="budget",
    ema_decay=0.998,
    resample_noise=True,
    learn_frames=True,
    redrawn_every=4,
    self_target_weight=0.4,
    student_only_fraction=0.35,
    max_minutes=5,
    max_steps=8_500,  # about what two cores with bfloat16 take in 5 minutes
    validate_every=100,
    patience=10,
    stop_after=None,
)
_BALANCED_SCHEDULE = _QUICK_SCHEDULE.model_copy(
    update={"batch": 16, "micro_batch": 16, "max_minutes": 30, "max_steps": 15_000}
)

PRESETS: dict[PresetName, Preset] = {
    "quick": Preset(model=_FAST_MODEL, schedule=_QUICK_SCHEDULE, divnoising=_FAST_DIVNOISING, pretrained=True),
    "balanced": Preset(model=_FAST_MODEL, schedule=_BALANCED_SCHEDULE, divnoising=_FAST_DIVNOISING, pretrained=True),
    "paper": Preset(
        model=ModelConfig(
            hdn=HDNConfig(
                filters=(64,) * 6,
                latent_channels=32,
                blocks=5,
                space_to_depth=1,
                gated=True,
                dropout=0.2,
                free_bits=1.0,
            ),
            direct=UNetConfig(filters=(32, 64, 128, 256, 512), blocks=1, space_to_depth=1, published=True),
            units="image",
        ),
        divnoising=DivNoisingConfig(filters=(32, 64), latent_channels=64, published=True),
        schedule=ScheduleConfig(
            batch=64,
            micro_batch=8,
            optimizer="adamax",
            hdn_rate=3e-4,
            direct_rate=3e-4,
            anneal="plateau",
            ema_decay=0.0,
            max_minutes=None,
            max_steps=200_000,
            validate_every=400,
            patience=10,
            stop_after=30,
        ),
    ),
}
