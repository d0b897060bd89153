"""Our presets and the published code behind one interface, for `speed.py`.

The published code (github krulllab/DirectDenoiser) is imported from a checkout. PyTorch Lightning is replaced by the
few lines of it that a training step needs, so that the step costs what the networks cost, and no more.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from napari_direct_denoiser import Denoiser, TrainSettings, load
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import Device, PresetName
from napari_direct_denoiser.cuda_graphs import Tensors
from napari_direct_denoiser.data.patches import PatchSampler
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import MixtureNoise
from napari_direct_denoiser.normalization import NetworkInput
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.system import _set_thresholds, free_memory, resolve, reusing_memory
from napari_direct_denoiser.training.average import MovingAverage
from napari_direct_denoiser.training.co_trainer import CoTrainer
from napari_direct_denoiser.training.loop import raise_when_cancelled
from napari_direct_denoiser.training.threads import using_threads

PUBLISHED_SIZES = 7_301_697, 11_764_577
"""Parameters of HDN and of the UNet."""
PATCHES = 8
"""Of 64x64 pixels in a step of the published code (a virtual batch)."""

_FILES = ("backbone.py", "unet.py", "hdn/models/lvae.py", "hdn/lib/gaussianMixtureNoiseModel.py")
_STUBBED = ("matplotlib", "matplotlib.pyplot", "sklearn", "sklearn.feature_extraction", "tqdm")
_MIXTURE = [[0.1, 0.3], [-0.2, 0.1], [0.4, -0.5], *[[3.0, 4.0]] * 3, *[[0.1, 0.2]] * 3]

Image = NDArray[Any]
Work = Callable[[], object]


class Subject(ABC):
    """Networks whose work is timed. Each method prepares that work, and returns it as a function."""

    code: str
    preset: str
    dtype: torch.dtype
    device: torch.device
    sizes: tuple[int, int]
    """Parameters of HDN and of the UNet."""
    threads: int
    """Of each network in training."""
    side_by_side: bool
    """Whether the two networks learn at the same time."""

    @abstractmethod
    def step(self, patches: int, *, hdn_only: bool = False) -> Work:
        """A training step on 64x64 pixels, to be taken in `training`."""

    def training(self) -> AbstractContextManager[None]:
        """What surrounds all steps of a training."""
        return nullcontext()

    def predicting(self) -> AbstractContextManager[None]:
        """What surrounds predictions."""
        return nullcontext()

    @abstractmethod
    def direct(self, image: Image) -> Work:
        """The direct pass, from array to array."""

    @abstractmethod
    def direct_of(self, stack: Image) -> Work:
        """The direct pass over all planes of a stack, from array to array."""

    @abstractmethod
    def mean(self, image: Image, samples: int) -> Work:
        """The mean of samples of HDN, from array to array."""

    @property
    @abstractmethod
    def encoder(self) -> tuple[object, str]:
        """The bottom-up pass: whose method it is, and its name."""


class _HDNOnly(CoTrainer):
    """Training without the Direct Denoiser: the step is the same, with nothing for it to do."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for model in (self.learner, self.average):
            model.unet = nn.Identity()  # type: ignore[assignment]
        self._moving = MovingAverage(self.average, self.learner)

    def _learn_sample(self, inputs: NetworkInput, sample: Tensor, frames: Tensors) -> Tensors:
        return (torch.zeros((), device=sample.device),)


class Ours(Subject):
    code = "ours"

    def __init__(self, preset: PresetName, device: Device, *, float32: bool = False, small: bool = False) -> None:
        self.stack = (simulate(2, 64) if small else simulate(8, 256)).noisy
        # the paper's networks get the published noise model, so that the same things are compared
        noise = MixtureNoise(torch.tensor(_MIXTURE), *_signals(self.stack), 1.0) if preset == "paper" else None
        self.denoiser = Denoiser.for_images(self.stack, TrainSettings(preset=preset, device=device), noise=noise)
        self.model = self.denoiser.model
        if float32:
            compute_in(self.model, torch.float32)
        self.preset: PresetName = preset
        self.dtype, self.device = self.model.compute.dtype, self.model.device
        trainer = self._trainer(1)
        self.threads, self.side_by_side = trainer.threads, trainer.side_by_side
        self.sizes = _count(self.model.hdn), _count(self.model.unet)

    def _trainer(self, patches: int, hdn_only: bool = False) -> CoTrainer:
        schedule = PRESETS[self.preset].schedule.model_copy(update={"batch": patches, "micro_batch": patches})
        return (_HDNOnly if hdn_only else CoTrainer)(self.model, PatchSampler([self.stack], 64, 0), schedule, 0)

    def step(self, patches: int, *, hdn_only: bool = False) -> Work:
        trainer = self._trainer(patches, hdn_only)
        for network in (trainer.learner, trainer.average):
            raise_when_cancelled(network, lambda: False)  # as `train_steps` does

        def step() -> None:
            with using_threads(trainer.threads):
                trainer.step(0.1)

        return step

    def training(self) -> AbstractContextManager[None]:
        return reusing_memory(self.device)

    def direct(self, image: Image) -> Work:
        return lambda: self.denoiser.denoise(image)

    def direct_of(self, stack: Image) -> Work:
        return self.direct(stack)

    def mean(self, image: Image, samples: int) -> Work:
        return lambda: self.denoiser.posterior_mean(image, samples)

    def median(self, image: Image, samples: int) -> Work:
        return lambda: self.denoiser.posterior_median(image, samples)

    def load(self, folder: Path) -> Work:
        """Reading the model from a file, which this writes (the published code would unpickle one)."""
        path = folder / f"{self.preset}.safetensors"
        self.denoiser.save(path)
        device: Any = self.device.type
        return lambda: load(path, device)

    @property
    def encoder(self) -> tuple[object, str]:
        return self.model, "encode"


@contextmanager
def _usual_memory() -> Iterator[None]:
    """Handle memory as in a process in which nothing of ours has run, and as glibc does by itself with large blocks."""
    _set_thresholds(2**25, 2**26)
    free_memory(torch.device("cpu"))
    yield


class Published(Subject):
    """The published code with the sizes of its notebook 2; prediction as in its notebook 3, in evaluation mode."""

    code = preset = "published"
    dtype = torch.float32
    side_by_side = False

    def __init__(self, checkout: Path, device: Device) -> None:
        self.modules = _import(checkout)
        self.device = resolve(device).device
        self.threads = torch.get_num_threads()
        self.stack = simulate(8, 256).noisy.astype(np.float32)
        self.backbone = self._backbone().eval()
        self.sizes = _count(self.backbone.vae), _count(self.backbone.direct_denoiser)
        if self.sizes != PUBLISHED_SIZES:
            sys.exit(f"Error: --reference: expected networks of {PUBLISHED_SIZES} parameters, found {self.sizes}")

    def _backbone(self, *, hdn_only: bool = False) -> Any:
        low, high = _signals(self.stack)
        arrays = {"trained_weight": _MIXTURE, "min_signal": [low], "max_signal": [high], "min_sigma": 1.0}
        params = {name: np.array(value) for name, value in arrays.items()}
        scale = {"data_mean": float(self.stack.mean()), "data_std": float(self.stack.std())}
        vae = self.modules["hdn.models.lvae"].LadderVAE(
            z_dims=[32] * 6,
            blocks_per_layer=5,
            batchnorm=True,
            free_bits=1.0,
            img_shape=(64, 64),
            noiseModel=self.modules["hdn.lib.gaussianMixtureNoiseModel"].GaussianMixtureNoiseModel(params=params),
            **scale,
        )
        unet = None if hdn_only else self.modules["unet"].UNet(depth=4, start_filters=32)
        # one virtual batch a step, where the notebook takes eight
        settings = {"vae": vae, "direct_denoiser": unet, **scale, "n_grad_batches": 1}
        return self.modules["backbone"].Backbone(**settings).to(self.device)

    def training(self) -> AbstractContextManager[None]:
        return _usual_memory()

    def predicting(self) -> AbstractContextManager[None]:
        return _usual_memory()

    def step(self, patches: int, *, hdn_only: bool = False) -> Work:
        backbone = self._backbone(hdn_only=hdn_only).train()
        networks = [backbone.vae] if hdn_only else [backbone.vae, backbone.direct_denoiser]
        # its own configure_optimizers asks for an argument that torch has given up
        backbone.taken = [torch.optim.Adamax(network.parameters(), lr=3e-4) for network in networks]
        cut = torch.from_numpy(self.stack).unfold(1, 64, 64).unfold(2, 64, 64).reshape(-1, 1, 64, 64)
        batches = _endless(DataLoader(TensorDataset(cut), batch_size=patches, shuffle=True))
        return lambda: backbone.training_step([part.to(self.device) for part in next(batches)], 0)

    def direct(self, image: Image) -> Work:
        return lambda: self.backbone.predict_direct_denoiser(self._tensor(image)).cpu().numpy()

    def direct_of(self, stack: Image) -> Work:
        works = [self.direct(plane) for plane in stack]
        return lambda: [work() for work in works]

    def mean(self, image: Image, samples: int) -> Work:
        def mean() -> Image:
            drawn = self.backbone.predict_vae(self._tensor(image), n_samples=samples, batch_size=1)
            average: Image = drawn.cpu().numpy().mean(0, keepdims=True)
            return average

        return mean

    @property
    def encoder(self) -> tuple[object, str]:
        return self.backbone.vae, "bottomup_pass"

    def _tensor(self, image: Image) -> Tensor:
        return torch.from_numpy(image.astype(np.float32))[None, None].to(self.device)


def compute_in(model: CoModel, dtype: torch.dtype) -> None:
    """Let a model compute in that precision, whatever the device gains by."""
    layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
    model.compute = replace(model.compute, dtype=dtype, memory_format=layout)
    model.to(memory_format=layout)  # type: ignore[call-overload]


def check_checkout(checkout: Path) -> None:
    """End the program with one line if this is no checkout of the published code."""
    missing = [name for name in _FILES if not (checkout / name).is_file()]
    if missing:
        sys.exit(
            f"Error: --reference: expected a checkout of github krulllab/DirectDenoiser with {', '.join(_FILES)}, "
            f"found no {missing[0]} in {checkout}"
        )


def _import(checkout: Path) -> dict[str, Any]:
    check_checkout(checkout)
    names = [name.removesuffix(".py").replace("/", ".") for name in _FILES]
    with _stubs(), patch.object(sys, "path", [str(checkout), *sys.path]):
        return {name: importlib.import_module(name) for name in names}


class _Lightning(nn.Module):
    """What a step asks of a LightningModule."""

    taken: Sequence[torch.optim.Optimizer] = ()

    def save_hyperparameters(self) -> None:
        pass

    def log(self, name: str, value: Tensor) -> None:
        pass

    def manual_backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        return self.taken


@contextmanager
def _stubs() -> Iterator[None]:
    """Stand in for Lightning and for packages that are not there, which are used for pictures and preparation only."""
    lightning = ModuleType("pytorch_lightning")
    lightning.LightningModule = _Lightning  # type: ignore[attr-defined]
    absent = [name for name in _STUBBED if importlib.util.find_spec(name.partition(".")[0]) is None]
    with patch.dict(sys.modules):  # forgets what was imported meanwhile, so it has to be put back
        sys.modules.update({"pytorch_lightning": lightning} | {name: MagicMock() for name in absent})
        yield
        imported = {name: module for name, module in sys.modules.items() if name not in absent}
    sys.modules.update({name: module for name, module in imported.items() if name != "pytorch_lightning"})


def _endless(loader: DataLoader[Any]) -> Iterator[list[Tensor]]:
    while True:
        yield from loader


def _signals(stack: Image) -> tuple[float, float]:
    return float(stack.min()), float(stack.max())


def _count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
