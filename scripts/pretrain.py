"""Train the weights that the quick preset starts from, on simulated images alone.

    python scripts/pretrain.py OUT.safetensors --minutes 60
    python scripts/pretrain.py OUT.safetensors --minutes 10 --only-std
    python scripts/pretrain.py CORRELATED.safetensors --minutes 60 --correlated

Images of filaments, cells, cut-outs and clouds at all sizes, blurs and contrasts are given the noise of a camera of a
new gain-free brightness and read noise at every step. In units of the noise (`scaling.py`) all cameras look alike, so
the weights fit any. The Direct Denoiser learns from the clean images themselves. HDN learns at first to draw images
near the clean one, which is a much less noisy lesson, and towards the end from its own loss (eq. 3) alone.

With `--only-std` only the head learns that predicts the standard deviation of the Direct Denoiser's error. All other
weights stay as the package has them, bit by bit. The weights for white noise were made by the first two commands, one
after the other.

With `--correlated` the Direct Denoiser learns, from those weights, to denoise images whose noise was correlated, along
one axis or both, in a new way at every step. It sees them whitened: sharper than those that a microscope makes. In a
part of the images the noise is that of interpolated pixels, which no stationary noise model describes.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_direct_denoiser.checkpoint import WEIGHTS, start_from_pretrained
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import GaussianNoise, NoiseModel, PoissonGaussianNoise
from napari_direct_denoiser.noise.correlated import CorrelatedNoise
from napari_direct_denoiser.noise.correlation import autoregression
from napari_direct_denoiser.noise.fit import LAGS, Autocorrelation, Axes
from napari_direct_denoiser.normalization import NetworkInput, Normalization, anscombe, gaussian_blur
from napari_direct_denoiser.presets import PRESETS

Image = NDArray[np.float32]

SIDE, PATCH, BATCH, FIELDS = 192, 64, 8, 1600
AVERAGING = 0.999
COLOUR_CAMERAS, INTERPOLATED = 40, 0.3  # different ones, and their part of the images with correlated noise
CROSS = torch.tensor([[0.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 0.0]])  # the four neighbours of a checkerboard


def field(seed: int) -> Image:
    """One clean image, (`SIDE`, `SIDE`), from 0 to about 1."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    parts = [(cells, 0.45), (cut_outs, 0.3), (points, 0.15), (clouds, 0.1)]
    weights = [share for _, share in parts]
    image = np.zeros((SIDE, SIDE), np.float32)
    for number in range(rng.integers(1, 4)):
        part = parts[rng.choice(len(parts), p=weights)][0](rng)
        image += part * float(rng.lognormal(0, 0.7) if number else 1)
    image = gaussian_filter(image, rng.choice([0.0, 0.7, 1.2, 2.0], p=[0.3, 0.3, 0.3, 0.1]))
    if rng.random() < 0.5:
        image = image + rng.uniform(0, 0.5) * image.max() * clouds(rng)
    image = (image - image.min()) / (np.quantile(image, 0.995) - image.min() + 1e-6)
    return np.asarray(image ** rng.uniform(0.7, 1.6), np.float32)


def cells(rng: np.random.Generator) -> Image:
    """The package's own simulation, at half to twice its size."""
    from scipy.ndimage import zoom

    size = float(rng.choice([0.5, 0.7, 1.0, 1.0, 1.5, 2.0]))
    side = max(round(SIDE / size), 128)
    truth = simulate(1, side, seed=int(rng.integers(2**31)), photons=1.0, gain=1.0, offset=0.0).truth[0]
    truth = zoom(truth, size, order=1) if size != 1 else truth
    y, x = (rng.integers(n - SIDE + 1) for n in truth.shape)
    return np.asarray(truth[y : y + SIDE, x : x + SIDE], np.float32)


def cut_outs(rng: np.random.Generator) -> Image:
    """Ellipses of all sizes that hide one another ("dead leaves"), each of one brightness or with a texture."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    image = np.full((SIDE, SIDE), rng.uniform(0, 0.3), np.float32)
    smallest = float(rng.choice([2, 4, 10]))
    for _ in range(rng.integers(20, 250)):
        radius = smallest * (1 - rng.random() * (1 - (smallest / 70) ** 2)) ** -0.5  # sizes by a power law
        cy, cx = rng.uniform(0, SIDE, 2)
        tilt, flat = rng.uniform(0, np.pi), rng.uniform(0.3, 1)
        u = (x - cx) * np.cos(tilt) + (y - cy) * np.sin(tilt)
        v = ((y - cy) * np.cos(tilt) - (x - cx) * np.sin(tilt)) / flat
        inside = u * u + v * v < radius**2
        image[inside] = rng.random() ** 2
        if rng.random() < 0.2:
            image[inside] *= 1 + 0.3 * np.sin(rng.uniform(0.2, 1.5) * u[inside])
    return image


def points(rng: np.random.Generator) -> Image:
    """Spots of light, few or many, sharp or spread."""
    from scipy.ndimage import gaussian_filter

    image = np.zeros((SIDE, SIDE), np.float32)
    count = int(10 ** rng.uniform(1.3, 3.5))
    np.add.at(image, tuple(rng.integers(0, SIDE, (2, count))), rng.lognormal(0, 0.6, count))
    image = gaussian_filter(image, rng.uniform(0.8, 3))
    return image / image.max()


def clouds(rng: np.random.Generator) -> Image:
    """Noise whose power falls with frequency: tissue, haze, textures."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij"))
    spectrum = np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) / (frequency + 1 / SIDE) ** rng.uniform(1.2, 2.5)
    image = np.fft.irfft2(spectrum, s=(SIDE, SIDE))
    return np.asarray((image - image.min()) / np.ptp(image), np.float32)


def camera(rng: np.random.Generator) -> tuple[NoiseModel, float, float]:
    """A noise model in electrons, the electrons of a bright pixel, and of the background."""
    bright = float(np.exp(rng.uniform(np.log(3), np.log(300))))
    dark = bright * float(rng.choice([0.02, 0.1, 0.3])) * rng.random()
    if rng.random() < 0.15:  # noise that does not depend on the signal
        return GaussianNoise(bright / float(np.exp(rng.uniform(np.log(2), np.log(30))))), bright, dark
    read_noise = float(rng.choice([0.1, 0.3, 1.0, 3.0]))
    return PoissonGaussianNoise(1.0, 0.0, read_noise, skew=float(rng.choice([1.0, 1.0, 1.5]))), bright, dark


def correlation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Coefficients of a random process, that of a slow detector or of a smoothing filter, along one axis or both."""
    axes: Axes = rng.choice(["x", "y", "yx"], p=[0.25, 0.25, 0.5])
    alike, slow = rng.random() < 0.7, rng.random() < 0.4
    along = {}
    for axis in ("x", "y"):
        if axis == "x" or not alike:
            near = rng.uniform(0.1, 0.7)
        distance = np.arange(-LAGS, LAGS + 1)
        along[axis] = near ** (np.abs(distance) if slow else distance**2) if axis in axes else 1.0 * (distance == 0)
    return autoregression(Autocorrelation(np.outer(along["y"][LAGS:], along["x"]), axes))


def interpolated(image: Tensor, apart: int, blur: float) -> Tensor:
    """Keep one pixel of 2 (a checkerboard) or of 4, interpolate the others, then blur: a colour of a colour camera."""
    y, x = (torch.arange(side) for side in image.shape[-2:])
    kept = (y[:, None] + x) % 2 == 0 if apart == 2 else (y[:, None] % 2 == 0) & (x % 2 == 0)
    near = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) if apart == 4 else CROSS
    padded = F.pad(image * kept, (1, 1, 1, 1), "reflect")
    filled = F.conv2d(padded, near.view(1, 1, 3, 3) / 4)
    return gaussian_blur(filled, blur) if blur else filled


class ColourCamera:
    """One way to interpolate, and the correlated noise that stands for it, which is not the same in all pixels."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.apart, self.blur = int(rng.choice([2, 4], p=[0.6, 0.4])), float(rng.uniform(0.35, 0.8))
        white = torch.from_numpy(rng.normal(size=(16, 1, 128, 128))).float()
        power = torch.fft.fft2(self(white)[..., 4:-4, 4:-4]).abs().square().mean((0, 1))
        covariance = torch.fft.ifft2(power).real / power.numel()
        self.variance = float(covariance[0, 0])
        lags = torch.roll(covariance, LAGS, 1)[: LAGS + 1, : 2 * LAGS + 1] / self.variance
        self.coefficients = autoregression(Autocorrelation(lags.double().numpy(), "yx"))

    def __call__(self, image: Tensor) -> Tensor:
        """Interpolate (B, 1, H, W)."""
        return interpolated(image, self.apart, self.blur)

    def noise(self, camera: NoiseModel) -> CorrelatedNoise:
        """The noise of interpolated pixels, as far as a stationary model can describe it."""
        scale = self.variance
        if isinstance(camera, PoissonGaussianNoise):
            own = camera.gain * scale, camera.offset, camera.read_noise * scale**0.5
            return CorrelatedNoise.of(PoissonGaussianNoise(*own, camera.skew), self.coefficients)
        assert isinstance(camera, GaussianNoise)
        return CorrelatedNoise.of(GaussianNoise(camera.sigma * scale**0.5), self.coefficients)


def draw(bank: Tensor, rng: np.random.Generator, bright: float, dark: float, side: int = PATCH) -> Tensor:
    """Clean patches (BATCH, 1, side, side), electrons."""
    patches = []
    for index in rng.integers(len(bank), size=BATCH):
        y, x = rng.integers(SIDE - side + 1, size=2)
        patch = bank[index, y : y + side, x : x + side]
        patch = patch.flip([axis for axis in (0, 1) if rng.random() < 0.5])
        patches.append((patch.T if rng.random() < 0.5 else patch) * float(rng.uniform(0.4, 1.2)))
    return torch.stack(patches)[:, None] * bright + dark


def hdn_losses(model: CoModel, seen: NetworkInput, clean: Tensor) -> tuple[Tensor, Tensor]:
    """HDN's own loss, and one that asks for images near the clean one; nats per pixel, both with KL."""
    normalization = model.normalization
    with model.compute.autocast():
        decoded = model.hdn(seen.views)
    drawn = decoded.signal.float()
    error = drawn + normalization.level - anscombe(clean, normalization.slope, normalization.intercept)
    kl = decoded.kl.mean(1).sum() / PATCH**2
    own = -model.noise.log_prob(seen.noisy, normalization.signal(drawn)).mean() + kl
    return own, 0.5 * error.square().mean() + kl


def learn_direct(model: CoModel, seen: NetworkInput, clean: Tensor) -> float:
    """Gradients of the Direct Denoiser's losses; the value of the first in deviations of the noise, squared."""
    loss, std_loss = model.direct_losses(seen, clean)
    loss = loss / model.noise.energy  # in units of a pixel's noise, or strongly correlated noise would count most
    (loss + std_loss).backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def write(model: CoModel, output: Path, kept: dict[str, Tensor] | None = None) -> None:
    """Write the weights in half precision, but those to be kept as they are."""
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file({**weights, **(kept or {})}, output)


def main() -> None:
    """Make the images, then train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only-std", action="store_true")
    what.add_argument("--correlated", action="store_true")
    arguments = parser.parse_args()
    fields = FIELDS // 4 if arguments.only_std else FIELDS
    with ProcessPoolExecutor(2) as pool:
        bank = torch.from_numpy(np.stack(list(pool.map(field, range(fields), chunksize=20))))
    torch.set_num_threads(1)
    learn = train_std if arguments.only_std else train_correlated if arguments.correlated else train
    learn(bank, arguments.output, 60 * arguments.minutes)


def untrained(bank: Tensor) -> CoModel:
    """A model of the quick preset on the CPU."""
    noise = GaussianNoise(1.0)
    model = CoModel(PRESETS["quick"].model, noise, Normalization.of([bank.numpy()], "noise", noise))
    return model.to_device("cpu").train()


def simulated(
    model: CoModel, bank: Tensor, rng: np.random.Generator, cameras: Sequence[ColourCamera] = ()
) -> tuple[NetworkInput, Tensor]:
    """Give the model a new camera, one with correlated noise if there are `cameras`.

    Returns what the networks see through it, and the clean patches (BATCH, 1, PATCH, PATCH), both whitened.
    """
    base, bright, dark = camera(rng)
    colour = cameras[rng.integers(len(cameras))] if cameras and rng.random() < INTERPOLATED else None
    noise = colour.noise(base) if colour else CorrelatedNoise.of(base, correlation(rng)) if cameras else base
    margin = noise.margin + 4 * (colour is not None)
    clean = draw(bank, rng, bright, dark, PATCH + 2 * margin)
    if colour is None and cameras and rng.random() < 0.5:  # what correlates the noise has smoothed the image, too
        clean = noise.color(clean)
        clean *= bright / clean.max()

    def white(image: Tensor) -> Tensor:
        return noise.whiten(image)[..., margin : PATCH + margin, margin : PATCH + margin]

    innovation = noise.innovation
    noisy = white(colour(base.sample(clean))) if colour else innovation.sample(white(clean))
    clean = white(colour(clean) if colour else clean)
    model.noise, model.normalization = noise, Normalization.of([noisy[:, 0].numpy()], "noise", innovation)
    return model.prepare_white(noisy), clean


def rate_at(step: int, fraction: float, highest: float) -> float:
    """Learning rate: a short warm-up, then a cosine."""
    return highest * min(1, step / 100) * 0.5 * (1 + math.cos(math.pi * fraction))


def train_std(bank: Tensor, output: Path, seconds: float) -> None:
    """Train the head of the standard deviation for so many seconds, on top of the weights of the package."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = untrained(bank)
    start_from_pretrained(model)
    head = model.unet.std_head
    assert head is not None
    model.requires_grad_(requires_grad=False)
    head.requires_grad_()
    average = copy.deepcopy(head)
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-3, betas=(0.9, 0.99))
    start = said = time.perf_counter()
    losses: list[float] = []
    step = 0
    while (fraction := (time.perf_counter() - start) / seconds) < 1:
        step += 1
        optimizer.param_groups[0]["lr"] = rate_at(step, fraction, 2e-3)
        optimizer.zero_grad()
        _, loss = model.direct_losses(*simulated(model, bank, rng))
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        follow(average, head, step)
        if time.perf_counter() - said > 30:
            said = time.perf_counter()
            print(f"{fraction:.1%} step {step} {np.mean(losses):.4f}", flush=True)
            losses.clear()
    head.load_state_dict(average.state_dict())
    kept = {name: tensor for name, tensor in load_file(WEIGHTS).items() if not name.startswith("unet.std_head.")}
    write(model, output, kept)


def train_correlated(bank: Tensor, output: Path, seconds: float) -> None:
    """Train the Direct Denoiser for so many seconds on correlated noise, on top of the weights of the package.

    The mean of both weights is written (Wortsman et al. 2022): on the whole it is better than either.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    cameras = [ColourCamera(rng) for _ in range(COLOUR_CAMERAS)]
    model = untrained(bank)
    start_from_pretrained(model)
    average = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.unet.parameters(), lr=5e-4, betas=(0.9, 0.99))
    start = said = time.perf_counter()
    losses: list[float] = []
    step = 0
    while (fraction := (time.perf_counter() - start) / seconds) < 1:
        step += 1
        optimizer.param_groups[0]["lr"] = rate_at(step, fraction, 5e-4)
        optimizer.zero_grad()
        losses.append(learn_direct(model, *simulated(model, bank, rng, cameras)))
        for parameters in model.unet.parameter_groups():
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        follow(average, model, step)
        if time.perf_counter() - said > 30:
            said = time.perf_counter()
            print(f"{fraction:.1%} step {step} {np.mean(losses):.4f}", flush=True)
            losses.clear()
    before = load_file(WEIGHTS)
    weights = {f"unet.{name}": tensor for name, tensor in average.unet.state_dict().items()}
    save_file({name: before[name].float().lerp(new, 0.5).half() for name, new in weights.items()}, output)


def follow(average: torch.nn.Module, model: torch.nn.Module, step: int) -> None:
    """Move the average of the weights."""
    with torch.no_grad():
        weight = 1 - min(AVERAGING, step / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), weight)


def train(bank: Tensor, output: Path, seconds: float) -> None:
    """Train for so many seconds; the weights are written every few minutes, for the impatient."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = untrained(bank)
    average = copy.deepcopy(model)
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.99)) for net in (model.hdn, model.unet)]
    beside = ThreadPoolExecutor(1)
    start = saved = said = time.perf_counter()
    losses: list[list[float]] = []
    step = 0
    while (fraction := (time.perf_counter() - start) / seconds) < 1:
        step += 1
        rate = rate_at(step, fraction, 1e-3)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
        seen, clean = simulated(model, bank, rng)
        direct = beside.submit(learn_direct, model, seen, clean)
        own, near = hdn_losses(model, seen, clean)
        share = min(max((fraction - 0.3) / 0.3, 0.0), 1.0)
        torch.lerp(near, own, share).backward()  # type: ignore[no-untyped-call]
        losses.append([float(own.detach()), float(near.detach()), direct.result()])
        for parameters in (model.hdn.parameters(), *model.unet.parameter_groups()):
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        follow(average, model, step)
        if time.perf_counter() - said > 30:
            said = time.perf_counter()
            print(f"{fraction:.1%} step {step}", *(f"{value:.4f}" for value in np.mean(losses, 0)), flush=True)
            losses.clear()
        if time.perf_counter() - saved > 180:
            saved = time.perf_counter()
            write(average, output)
    write(average, output)


if __name__ == "__main__":
    main()
