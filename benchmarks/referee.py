"""The referee beside the truth: its gain over the best blur, its ranking of estimates, and wrong noise models.

    python benchmarks/referee.py w2s tirf --csv referee.csv
    python benchmarks/referee.py all --models FOLDER --csv referee.csv

One row for each set of images, written as soon as it is measured. Without a folder of models (NAME.safetensors) a model
is trained for some steps. The true gain is that of the mean squared errors of the planes that the referee judges.
Pairs of estimates (noisy, five blurs, the direct pass before and after training, HDN's mean) are ranked on every plane;
a pair counts if the estimates truly differ by over 0.1 dB. The gain of the camera in the noise model is then set 30 %
too low and too high; the referee should refuse to judge.

Truths that are the mean of frames hold a part of the noise of each: it is taken out, and the rest is subtracted. Frames
differ in brightness, of which the truth knows nothing: it is brought to that of each (`intensities.matched`).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from correlated import CASES
from intensities import matched
from numpy.typing import NDArray
from quality_data import DATASETS, SHARED, add_row
from scipy.ndimage import gaussian_filter
from torch import Tensor

from napari_direct_denoiser import Denoiser, load
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.data.images import Frames, spread_over
from napari_direct_denoiser.evaluation.referee import referee_steps
from napari_direct_denoiser.noise import NoiseModel, PoissonGaussianNoise
from napari_direct_denoiser.noise.wrapped import pixel_noise
from napari_direct_denoiser.normalization import gaussian_blur
from napari_direct_denoiser.prediction.predict import predict_steps
from napari_direct_denoiser.progress import drain
from napari_direct_denoiser.risk import BLURS, Probe, Response

FRAMES = {"tirf": 20, "widefield": 50, "mice": 50, "fish": 50, "twophoton": 20}  # whose mean is the truth
NAMES = ("w2s", "tirf", "lysosome", "synthetic", "widefield", "mice", "fish", "w2s-x", "twophoton")
APART = 0.1  # dB

Planes = NDArray[np.float32]


class Images(NamedTuple):
    """Images to train on, and planes to judge with their truth, which may be the mean of frames."""

    noisy: NDArray[Any]
    axes: str
    planes: Planes
    truth: NDArray[np.float64]
    frames: int | None

    def measured(self, noise: NoiseModel) -> Images:
        """Only the pixels that a colour camera measured: those that are denoised."""
        planes, truth = (noise.measured(each.astype(np.float32)) for each in (self.planes, self.truth))
        return self._replace(planes=np.asarray(planes), truth=np.asarray(truth, np.float64))

    @property
    def left(self) -> float:
        """Variance of the noise that the truth has left."""
        return float(np.mean((self.planes - self.truth) ** 2)) / self.frames if self.frames else 0.0


def load_images(name: str, folder: Path, most: int) -> Images:
    if name in DATASETS:
        data = DATASETS[name](folder)
        noisy, axes, planes, truth = data.noisy, data.axes, data.planes, data.truth
    else:
        case = CASES[name](folder)
        noisy, axes, planes, truth = case.noisy, "TYX", case.planes, case.truth
    planes, truth = planes[:most].astype(np.float32), np.asarray(truth[:most], np.float64)
    count = FRAMES.get(name)
    if count is None:
        return Images(noisy, axes, planes, truth, None)
    if name != "twophoton":  # whose truth is the mean of the other frames
        truth = (count * truth - planes) / (count - 1)
    return Images(noisy, axes, planes, matched(truth, planes), count)


def model_of(name: str, images: Images, args: argparse.Namespace) -> tuple[CoModel, CoModel]:
    """The model before and after training."""
    untrained = Denoiser.for_images(images.noisy, train_settings(max_steps=args.steps, seed=args.seed), images.axes)
    start = copy.deepcopy(untrained.model)
    if args.models:
        return start, load(args.models / f"{name}.safetensors").model
    for _ in untrained.train_steps():
        pass
    return start, untrained.model


def predict(model: CoModel, planes: Planes, output: Any, samples: int = 1) -> Tensor:
    """Denoise measured pixels."""
    found = drain(predict_steps(model, planes, [output], samples=samples, measured=True))[output]
    return torch.from_numpy(found)[:, None]


def ranked(start: CoModel, model: CoModel, images: Images, samples: int) -> tuple[int, int, float]:
    """Pairs that truly differ, those of them that are ranked right, and the worst that is not, dB."""
    pairs, right, worst = 0, 0, 0.0
    for plane, truth in zip(images.planes, images.truth, strict=True):
        raw = plane[None]
        direct = predict(model, raw, "direct")
        noisy = torch.from_numpy(raw)[None]
        probe = Probe.draw(model.noise, noisy, direct)
        shifted = raw + (probe.shifted - noisy)[0].numpy()
        found = [probe.nothing_done, probe.response(direct, predict(model, shifted, "direct"))]
        found += [Response(gaussian_blur(noisy, s), gaussian_blur(probe.noise, s)) for s in (0.5, 1.0, 1.5, 2.0, 3.0)]
        found.append(probe.response(*(predict(start, each, "direct") for each in (raw, shifted))))
        found.append(probe.response(*(predict(model, each, "mean", samples) for each in (raw, shifted))))
        errors = [float(np.mean((each.estimate[0, 0].numpy() - truth) ** 2)) - images.left for each in found]
        for (one, first), (other, second) in itertools.combinations(zip(errors, found, strict=True), 2):
            apart = abs(10 * math.log10(one / other))
            if apart > APART:
                pairs += 1
                if (probe.difference(first, second).difference < 0) == (one < other):
                    right += 1
                else:
                    worst = max(worst, apart)
    return pairs, right, worst


def true_gain(model: CoModel, images: Images) -> float:
    """Of the mean squared error over the best blur of those that the referee knows, dB."""

    def error(estimate: NDArray[Any]) -> float:
        return float(np.mean((estimate - images.truth) ** 2)) - images.left

    blurs = [gaussian_filter(images.planes, (0, sigma, sigma)) for sigma in BLURS]
    best = min(error(each) for each in (images.planes, *blurs))
    return 10 * math.log10(best / error(predict(model, images.planes, "direct")[:, 0].numpy()))


def with_gain(noise: NoiseModel, factor: float) -> NoiseModel:
    """The noise model with the variance that a camera's gain which is wrong by a factor gives it."""
    pixel = pixel_noise(noise.innovation)
    if not isinstance(pixel, PoissonGaussianNoise):
        sys.exit(f"Expected Poisson-Gaussian noise, found {pixel.describe()}")
    wrong = PoissonGaussianNoise(pixel.gain * factor, pixel.offset, pixel.read_noise * factor**0.5, pixel.skew)
    return noise.with_innovation(wrong)


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    images = load_images(name, args.data, args.planes)
    start, model = model_of(name, images, args)
    frames = Frames(images.planes[spread_over(len(images.planes), args.planes)])
    apart = Frames(frames.planes, len(frames.planes))  # no frame has another one of its scene
    judged, by_noise = (drain(referee_steps(model, each)) for each in (frames, apart))
    pixels = images.measured(model.noise)
    pairs, right, worst = ranked(start, model, pixels, args.samples)
    row: dict[str, Any] = {
        "images": name,
        "planes": len(images.planes),
        "true_gain_db": true_gain(model, pixels),
        "estimated_gain_db": judged.gain_db,
        "estimated_gain_error_db": judged.error_db,
        "without_frames_db": by_noise.gain_db,
        "pairs": pairs,
        "ranked_right": right,
        "worst_wrong_db": worst,
    }
    for factor in (0.7, 1.3):
        wrong = copy.deepcopy(model)
        wrong.noise = with_gain(model.noise, factor)
        row[f"refused_{factor}"] = drain(referee_steps(wrong, apart)).why is not None
    return {**row, "why": judged.why or by_noise.why}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", choices=[*NAMES, "all"])
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    parser.add_argument("--models", type=Path, help="folder of trained models")
    parser.add_argument("--steps", type=int, default=600, help="of the training, if there is no folder of models")
    parser.add_argument("--planes", type=int, default=8, help="that are judged")
    parser.add_argument("--samples", type=int, default=8, help="of HDN")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, required=True, help="file to add rows to")
    args = parser.parse_args()
    for name in NAMES if "all" in args.images else args.images:
        row = measure(name, args)
        row = {key: f"{value:.2f}" if isinstance(value, float) else value for key, value in row.items()}
        add_row(args.csv, list(row), row)
        print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
