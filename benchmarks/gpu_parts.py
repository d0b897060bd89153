"""What `gpu.py` measures: each part is a function of its settings that returns figures and checks, and runs alone."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from quality import mean_psnr, predict
from quality_data import load_dataset
from speed import cores
from speed_published import Ours, Published, Subject, Work, compute_in
from speed_scaling import name_of, synchronise

from napari_direct_denoiser import Denoiser, load, train
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import Device, PresetName, train_settings
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.networks import LadderVAE
from napari_direct_denoiser.prediction.tiling import Output
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.progress import drain
from napari_direct_denoiser.training import calibrate, mean_or_direct, validation

import torch._dynamo  # isort: skip  # what optimizers load when they are made, once for all parts

PROJECT = Path(__file__).resolve().parents[1]
TESTS = ("networks", "noise", "test_co_model.py", "test_cuda_graphs.py", "test_on_device.py")
CPU_QUALITY = {"quick": 31.62, "balanced": 31.62}
"""PSNR of W2S that `quick` has after 5 minutes on two CPU cores, dB (docs/quality.md)."""
PAPER_STEPS, PAPER_MEASURED = 200_000, 2_000
OUTPUTS: tuple[Output, ...] = ("direct", "std", "mean", "median", "sample_std", "sample")

_STEPS_BEFORE = 16  # after which all kinds of steps are recorded as CUDA graphs
PREPARING_SECONDS = 15.0  # to read images and measure their noise
NOISE = "poisson:2,100,3"
"""Of simulated images."""

Images = NDArray[Any]


@dataclass(frozen=True)
class Settings:
    device: Device
    fast: bool
    seconds: float
    """What a part that could go on for long may take."""
    data: Path
    published: Path | None


@dataclass
class Result:
    figures: dict[str, Any] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    skipped: str | None = None

    def check(self, name: str, value: float, low: float, high: float) -> None:
        """Note a figure that has to lie between limits."""
        self.checks.append(
            {"name": name, "value": float(value), "low": low, "high": high, "passed": bool(low <= value <= high)}
        )


def shrink() -> None:
    """Make everything small, so that a CPU takes no time: `paper` keeps all kinds of its layers."""
    preset = PRESETS["paper"]
    hdn = preset.model.hdn.model_copy(update={"filters": (8,) * 6, "blocks": 1, "latent_channels": 4})
    unet = preset.model.direct.model_copy(update={"filters": (4, 8, 16, 32, 64)})
    model = preset.model.model_copy(update={"hdn": hdn, "direct": unet})
    schedule = preset.schedule.model_copy(update={"batch": 2, "micro_batch": 2})
    PRESETS["paper"] = preset.model_copy(update={"model": model, "schedule": schedule})
    few = {"filters": (8, 8)}
    for name in ("quick", "balanced"):
        model = PRESETS[name].model
        model = model.model_copy(
            update={"hdn": model.hdn.model_copy(update=few), "direct": model.direct.model_copy(update=few)}
        )
        PRESETS[name] = PRESETS[name].model_copy(update={"model": model, "pretrained": False})
    calibrate._PIXELS, calibrate._SIDE, mean_or_direct._SAMPLES = 10_000, 96, 2
    validation._PATCHES = 2


def machine(settings: Settings) -> Result:
    found: dict[str, Any] = {
        "package": version("napari-direct-denoiser"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "device": settings.device,
    }
    if settings.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "memory_gib": properties.total_memory / 2**30,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        }
    return Result(found)


def tests(settings: Settings) -> Result:
    """The tests that take a device, on this one."""
    if not find_spec("pytest"):
        return Result(skipped="no pytest in this Python")
    import pytest

    chosen = TESTS[:1] if settings.fast else TESTS
    os.environ["DIRECT_DENOISER_TEST_DEVICE"] = settings.device
    os.environ["COLUMNS"] = "250"  # so that the summary says why a test failed
    os.chdir(PROJECT)
    alone = ["-n", "0"] if find_spec("xdist") else []  # processes would share the GPU
    # without pytest-qt, which draws nothing here, pytest does not know its option and would stop
    lenient = ["-o", "addopts=", "-W", "ignore::pytest.PytestConfigWarning"]
    options = ["-q", "-p", "no:cacheprovider", *lenient, "-m", "on_device", *alone]
    with redirect_stdout(StringIO()) as said:
        pytest.main([*options, *(str(Path("tests") / name) for name in chosen)])
    words = (said.getvalue().strip().splitlines() or [""])[-1]
    counts = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|error|skipped)", words)}
    failed = re.findall(r"^(?:FAILED|ERROR) .*", said.getvalue(), re.MULTILINE)
    result = Result({"summary": words, "failures": failed})
    if not counts:
        raise RuntimeError(f"pytest did not run: {said.getvalue().strip()[-300:]}")
    result.check("tests that failed", counts.get("failed", 0) + counts.get("error", 0), 0, 0)
    return result


def agreement(settings: Settings) -> Result:
    """Every output on the CPU and on the device with the same weights, and twice on the device with the same seed."""
    result = Result()
    torch.backends.cudnn.allow_tf32 = False  # float32 on both sides
    side, samples = (64, 12) if settings.fast else (256, 200)
    image = simulate(1, side, seed=5).noisy[0]
    for preset in ("quick", "paper"):
        model = _model(preset, settings)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            model.save(path)
            pair = load(path, "cpu"), load(path, settings.device)
        result.figures[preset] = _compare(result, preset, pair, image, samples if preset == "quick" else samples // 4)
        repeated = [_outputs(pair[1], image, 3, seed=7) for _ in range(2)]
        same = all(np.array_equal(repeated[0][name], repeated[1][name]) for name in repeated[0])
        result.check(f"{preset}: predictions that differ with the same seed", 0 if same else 1, 0, 0)
    _repeat_training(result, settings)
    return result


def _model(preset: PresetName, settings: Settings) -> Denoiser:
    """A model of simulated images; `paper` is not trained, and with --fast nothing is."""
    stack = simulate(2, 64 if settings.fast else 256, seed=1).noisy
    if preset == "paper" or settings.fast:
        return Denoiser.for_images(stack, train_settings(preset=preset, noise=NOISE, device="cpu"))
    return train(stack, preset=preset, noise=NOISE, max_steps=100, device="cpu")


def _outputs(denoiser: Denoiser, image: Images, samples: int, seed: int) -> dict[str, Images]:
    return drain(denoiser.denoise_steps(image, OUTPUTS, samples=samples, seed=seed))


def _compare(
    result: Result, preset: str, pair: tuple[Denoiser, Denoiser], image: Images, samples: int
) -> dict[str, float]:
    """Differences in standard deviations of the noise; of samples, whose random numbers differ, the statistics."""
    usual = [_outputs(each, image, 1, 0)["direct"] for each in pair]  # at the precision of each device
    for each in pair:
        compute_in(each.model, torch.float32)
    one, other = (_outputs(each, image, samples, seed) for seed, each in enumerate(pair))
    with torch.no_grad():
        variance = pair[0].model.noise.variance(torch.from_numpy(one["direct"]))
    noise = variance.sqrt().numpy()
    spread = np.sqrt((one["sample"].var(0) + other["sample"].var(0)) / 2) + 1e-12
    error = spread * np.sqrt(2 / samples)
    std, mean = (torch.from_numpy(each) for each in (one["sample"].std(0), one["mean"]))
    calibrated = pair[0].model.calibration.of_samples(std, mean, samples).numpy()
    pooled = [each["sample"] - (one["mean"] + other["mean"]) / 2 for each in (one, other)]
    figures = {
        "direct": float(np.abs((one["direct"] - other["direct"]) / noise).max()),
        "direct in the usual precision": float(np.sqrt(np.mean(((usual[0] - usual[1]) / noise) ** 2))),
        "std": 0.0,
        "mean": _rms((one["mean"] - other["mean"]) / error),
        "median": _rms((one["median"] - other["median"]) / (1.2533 * error)),
        "sample_std": _rms(other["sample_std"]) / _rms(one["sample_std"]),
        "sample_std of the samples": _rms(one["sample_std"]) / _rms(calibrated),
        "sample": _rms(pooled[1]) / _rms(pooled[0]),
    }
    if pair[0].model.has_std:  # otherwise it is that of the samples
        figures["std"] = float(np.abs(other["std"] / one["std"] - 1).max())
    loose = 1 + 6 / np.sqrt(samples)  # pixels of a sample are not independent
    for name, low, high in (
        ("direct", 0.0, 1e-3),
        ("direct in the usual precision", 0.0, 0.05),
        ("std", 0.0, 1e-2),
        ("mean", 1 / loose, loose),
        ("median", 0.8 / loose, 1.2 * loose),
        ("sample_std", 1 / loose, loose),
        ("sample_std of the samples", 0.999, 1.001),
        ("sample", 1 / loose, loose),
    ):
        result.check(f"{preset}: {name}, CPU against device", figures[name], low, high)
    return figures


def _rms(values: Images) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _repeat_training(result: Result, settings: Settings) -> None:
    """Train twice with one seed. On a GPU some gradients are summed in changing order."""
    stack = simulate(2, 64 if settings.fast else 128, seed=2).noisy
    found = [train(stack, max_steps=3 if settings.fast else 50, device=settings.device, noise=NOISE) for _ in range(2)]
    direct = [each.denoise(stack[0]) for each in found]
    with torch.no_grad():
        noise = found[0].model.noise.variance(torch.from_numpy(direct[0])).sqrt().numpy()
    difference = float(np.abs((direct[0] - direct[1]) / noise).max())
    result.figures["training twice"] = {"direct": difference, "bit for bit": bool(difference == 0)}
    result.check("training twice with one seed: direct", difference, 0.0, 0.0 if settings.device == "cpu" else 0.1)


def memory(settings: Settings) -> Result:
    """Training and prediction with less memory than they take: both go on with fewer at a time."""
    result = Result()
    side, samples = (64, 6) if settings.fast else (512, 24)
    stack = simulate(2, side, seed=3).noisy
    train_with = train_settings(noise=NOISE, device=settings.device, max_steps=3 if settings.fast else 10)
    denoiser = Denoiser.for_images(stack, train_with)
    model = denoiser.model
    needed, single = (_peak(model.device, lambda n=n: predict(model, stack[:1], "mean", n)) for n in (samples, 1))
    whole, _ = predict(model, stack[:1], "mean", samples)
    short = _little_memory(model.device, (single + needed) / 2, CoModel, "sample", 1)
    with warnings.catch_warnings(record=True) as said, short:
        warnings.simplefilter("always")
        little, _ = predict(model, stack[:1], "mean", samples)
    with torch.no_grad():
        noise = model.noise.variance(torch.from_numpy(whole).to(model.device)).sqrt().cpu().numpy()
    result.figures["prediction"] = {"needed_mib": needed / 2**20, "warnings": [str(each.message) for each in said]}
    result.check("prediction: warnings", sum("Memory is short" in str(each.message) for each in said), 1, 1)
    difference = float(np.abs((whole - little) / noise).max())
    result.check("prediction: difference in standard deviations of the noise", difference, 0, 0.02)
    quick = PRESETS["quick"]
    batch = 4 if settings.fast else 256
    schedule = quick.schedule.model_copy(update={"batch": batch, "micro_batch": batch})

    def training() -> float:
        return [progress.direct_loss for progress in Denoiser.for_images(stack, train_with).train_steps()][-1]

    with patch.dict(PRESETS, quick=quick.model_copy(update={"schedule": schedule})):
        losses = [training()]  # what is loaded once is not counted in what is needed
        needed = _peak(model.device, training) if model.device.type == "cuda" else 0.0
        short = _little_memory(model.device, 0.6 * needed, LadderVAE, "encode", 0)
        with warnings.catch_warnings(record=True) as said, short:
            warnings.simplefilter("always")
            losses.append(training())
    result.figures["training"] = {"needed_mib": needed / 2**20, "losses": losses}
    result.check("training: warnings", sum("fewer patches" in str(each.message) for each in said), 1, 1)
    result.check("training: loss over that with enough memory", losses[1] / losses[0], 0.5, 2.0)
    return result


def _peak(device: torch.device, work: Callable[[], object]) -> float:
    """Bytes that some work takes at most: tensors on a GPU, otherwise what the process grows by."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = 0
    else:
        before = _resident("VmRSS")
        clear = Path("/proc/self/clear_refs")
        if clear.exists():
            clear.write_text("5")  # forgets the peak
    work()
    synchronise(device)
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else max(_resident("VmHWM") - before, 0)


def _resident(name: str) -> float:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(name)), 0.0)


def _little_memory(
    device: torch.device, most: float, owner: Any, name: str, counted: int
) -> AbstractContextManager[Any]:
    """On a GPU so many bytes. A CPU has no such limit: a method raises what torch would, beyond two of an argument."""
    if device.type == "cuda":
        return _capped_allocator(most)
    method = getattr(owner, name)

    def cramped(self: Any, *args: Any) -> Any:
        if len(args[counted]) > 2 and (torch.is_grad_enabled() or owner is CoModel):
            raise MemoryError("not enough memory")
        return method(self, *args)

    return patch.object(owner, name, cramped)


@contextmanager
def _capped_allocator(most: float) -> Iterator[None]:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(most / total, 1.0))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def speed(settings: Settings) -> Result:
    """Steps a second, the direct pass, a sample and peak memory of all presets, beside the published code."""
    result = Result()
    side = 64 if settings.fast else 512
    least = 0.02 if settings.fast else 1.0
    image = simulate(1, side).noisy[0]
    subjects: list[tuple[str, Callable[[], Subject]]] = [
        (name, lambda name=name: Ours(name, settings.device, small=settings.fast)) for name in PRESETS
    ]
    if settings.published is not None:
        checkout = settings.published
        subjects.append(("published", lambda: Published(checkout, settings.device)))
    for name, make in subjects:
        subject = make()
        patches = PRESETS[name].schedule.micro_batch if name in PRESETS else 8
        if settings.fast:
            patches = min(patches, 2)
        found: dict[str, Any] = {"dtype": name_of(subject.dtype), "patches": patches, "side": side}
        with subject.training():
            step = subject.step(patches)
            for _ in range(2 if settings.fast else _STEPS_BEFORE):
                step()
            found |= _timed("step", step, subject.device, least)
        found["steps_per_second"] = 1 / found["step_s"]
        with subject.predicting():
            found |= _timed("direct", subject.direct(image), subject.device, least)
            found |= _timed("sample", subject.mean(image, 1), subject.device, least)
            if not settings.fast:
                found |= _timed("mean_of_10", subject.mean(image, 10), subject.device, least)
            planes = 4 if settings.fast else 20
            stack = _timed("stack", subject.direct_of(np.stack([image] * planes)), subject.device, least)
            found["plane_of_stack_s"] = stack["stack_s"] / planes
        result.figures[name] = found
        del subject
    return result


def _timed(name: str, work: Work, device: torch.device, least: float) -> dict[str, float]:
    """Seconds of one call: of many that are told to the device at once, as a training and a stack of planes do."""
    work()  # what is loaded once is not counted
    began = time.perf_counter()
    peak = _peak(device, work)
    calls = max(1, min(int(least / max(time.perf_counter() - began, 1e-6)), 1000))
    began = time.perf_counter()
    for _ in range(calls):
        work()
    synchronise(device)
    return {f"{name}_s": (time.perf_counter() - began) / calls, f"{name}_peak_mib": peak / 2**20}


def quality(settings: Settings, preset: PresetName) -> Result:
    """Train on W2S until the direct pass is as good as after 5 minutes on a CPU."""
    if settings.fast:
        return Result(skipped="left out with --fast")
    if not (settings.data / "w2s_ch1_noisy.tif").is_file():
        return Result(skipped=f"no w2s_ch1_noisy.tif in {settings.data}: give the folder with --data")
    began = time.perf_counter()
    data, goal = load_dataset("w2s", settings.data), CPU_QUALITY[preset]
    schedule = PRESETS[preset].schedule
    budget = {"max_minutes": (settings.seconds - PREPARING_SECONDS) / 60, "max_steps": schedule.max_steps}
    denoiser = Denoiser.for_images(
        data.noisy, train_settings(preset=preset, device=settings.device, **budget), axes=data.axes
    )
    curve: list[dict[str, float]] = []
    for progress in denoiser.train_steps():
        due = not curve or progress.elapsed_seconds - curve[-1]["seconds"] >= 2 or progress.stopped
        late = time.perf_counter() - began > settings.seconds
        if due or late:
            image, _ = predict(denoiser.model, data.planes, "direct")
            psnr = mean_psnr(image, data.truth)
            curve.append({"seconds": progress.elapsed_seconds, "steps": progress.step, "psnr": psnr})
        if curve[-1]["psnr"] >= goal or late:
            break
    reached = curve[-1] if curve[-1]["psnr"] >= goal else None
    result = Result({"goal_db": goal, "reached": reached, "best_db": max(p["psnr"] for p in curve), "curve": curve})
    result.check(f"{preset}: PSNR that was reached, dB", curve[-1]["psnr"], goal, 100.0)
    return result


def paper(settings: Settings) -> Result:
    """Steps of the paper's size; what 200 000 would take."""
    began = since = time.perf_counter()
    schedule, goal = PRESETS["paper"].schedule, 3 if settings.fast else PAPER_MEASURED
    stack = simulate(8, 64 if settings.fast else 256).noisy
    denoiser = Denoiser.for_images(stack, train_settings(preset="paper", noise=NOISE, device=settings.device))
    first = steps = 0
    seconds = 0.0
    for progress in denoiser.train_steps():
        synchronise(denoiser.model.device)
        if not first:  # what is set up once does not count
            since, first = time.perf_counter(), progress.step
            continue
        steps, seconds = progress.step - first, time.perf_counter() - since
        if steps >= goal or time.perf_counter() - began > settings.seconds:
            break
    rate = steps / seconds
    return Result(
        {
            "batch": schedule.batch,
            "patch": schedule.patch,
            "steps": steps,
            "seconds": seconds,
            "steps_per_second": rate,
            "hours": PAPER_STEPS / rate / 3600,
        }
    )


PARTS: dict[str, Callable[[Settings], Result]] = {
    "machine": machine,
    "tests": tests,
    "agreement": agreement,
    "memory": memory,
    "speed": speed,
    "quick": lambda settings: quality(settings, "quick"),
    "paper": paper,
    "balanced": lambda settings: quality(settings, "balanced"),
}
