"""What must not matter does not: units, kind of numbers, company, tiles, memory, threads, device.

Others of this kind: an interrupted training in `tests/training/test_resume.py`, results on disk and on workers in
`tests/prediction/test_streaming.py` and `test_cluster.py`, repeated trainings in `tests/training/test_training.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small import small_networks

from napari_direct_denoiser import Denoiser, train
from napari_direct_denoiser.config import UNetConfig
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.networks import UNet
from napari_direct_denoiser.prediction import predict, tiling
from napari_direct_denoiser.prediction.predict import predict_steps
from napari_direct_denoiser.prediction.tiling import Output
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.progress import drain
from napari_direct_denoiser.system import Compute

Images = NDArray[Any]
Cases = Callable[[int, int], int]
Tally = Callable[[str, int, int], None]

GAIN, OFFSET, READ = 2.0, 100.0, 3.0  # of the simulated camera, counts
LEAST_NOISE = READ
STACK = simulate(planes=4, size=64, seed=0).noisy.astype(np.float64)
OUTPUTS: tuple[Output, ...] = ("direct", "std", "mean", "sample_std")


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with small_networks():
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def results(denoiser: Denoiser, image: Images, outputs: tuple[Output, ...] = OUTPUTS) -> dict[Output, Images]:
    """Of three samples."""
    return drain(denoiser.denoise_steps(image, outputs, samples=3, seed=2, axes="TYX"[-image.ndim :]))


def trained(images: Images, noise: str, **settings: Any) -> Denoiser:
    return train(images, "TYX", noise, max_steps=6, device="cpu", seed=1, **settings)


@pytest.fixture(scope="module")
def denoiser(small: None) -> Denoiser:
    return trained(STACK, f"poisson:{GAIN},{OFFSET},{READ}")


def error(found: Images, expected: Images, noise: float) -> float:
    """Largest difference in units of the noise, beside the rounding of float32 results."""
    rounding = 8 * np.spacing(np.abs(expected).max().astype(np.float32)).astype(float)
    return float(max(np.abs(found.astype(float) - expected).max() - rounding, 0)) / noise


def in_other_units(values: Images, name: Output, scale: float, shift: float) -> Images:
    return values.astype(float) * scale + (0 if "std" in name else shift)


def noise_in(kind: str, scale: float, shift: float) -> str:
    if kind == "gaussian":
        return f"gaussian:{5 * scale!r}"
    camera = f"poisson:{GAIN * scale!r},{OFFSET * scale + shift!r},{READ * scale!r}"
    return camera + ("+x:0.4" if kind == "correlated" else "")


@pytest.mark.slow
def test_another_unit_and_another_offset_scale_and_shift_the_results(cases: Cases, tally: Tally) -> None:
    """The whole way: training on scaled and shifted images gives scaled and shifted results."""
    number, survived = cases(40, 1), 0
    for case in range(number):
        rng = np.random.default_rng([4, case])
        scale, shift = 10 ** rng.uniform(-3, 4), 0.0
        if case % 2:
            scale, shift = 1.0, rng.uniform(-1000, 1000)
        kind = ("poisson", "correlated", "gaussian")[case % 3]
        teacher = ("hdn", "hdn", "divnoising")[case // 3 % 3]
        plain = results(trained(STACK, noise_in(kind, 1, 0), teacher=teacher), STACK)
        moved = STACK * scale + shift
        found = results(trained(moved, noise_in(kind, scale, shift), teacher=teacher), moved)
        survived += all(
            error(found[name], in_other_units(plain[name], name, scale, shift), scale * LEAST_NOISE) < 1e-4
            for name in OUTPUTS
        )
    tally("other units and offsets", number, survived)


def test_the_noise_of_images_in_other_units_is_estimated_in_these_units(cases: Cases, tally: Tally) -> None:
    """Exactly, where the scale is a power of two; images from 0 to 1 are among them."""
    plain = results(trained(STACK, "auto"), STACK)
    scales = [2.0**-9, 0.7, 2.0**-20, 8.0, 2.0**14, *10 ** np.random.default_rng(8).uniform(-3, 4, 15)][: cases(20, 2)]
    survived = 0
    for scale in scales:
        found = results(trained(STACK * scale, "auto"), STACK * scale)
        if np.log2(scale).is_integer():
            survived += all(np.array_equal(found[name], plain[name] * np.float32(scale)) for name in OUTPUTS)
        else:
            survived += all(
                error(found[name], in_other_units(plain[name], name, scale, 0), scale * LEAST_NOISE) < 1e-4
                for name in OUTPUTS
            )
    tally("estimated noise in other units", len(scales), survived)


def test_the_kind_of_numbers_does_not_matter(cases: Cases, tally: Tally) -> None:
    plain = results(trained(STACK.astype(np.float32), "auto"), STACK.astype(np.float32))
    dtypes = ["uint16", ">u2", "int16", "int32", "uint64", "float64", ">f4", "longdouble"][: cases(8, 1)]
    survived = 0
    for dtype in dtypes:
        found = results(trained(STACK.astype(dtype), "auto"), STACK.astype(dtype))
        survived += all(np.array_equal(found[name], plain[name]) for name in OUTPUTS)
    tally("the same numbers in other dtypes", len(dtypes), survived)


def image(case: int, most: int = 200) -> Images:
    """A noisy stack of random shape."""
    rng = np.random.default_rng([5, case])
    rows, columns = (int(side) for side in rng.integers(8, most, 2))
    clean = 20 + 15 * np.sin(np.arange(rows)[:, None] / 5) * np.cos(np.arange(columns) / 7)
    return np.asarray(OFFSET + GAIN * rng.poisson(clean, (3, rows, columns)) + rng.normal(0, READ, (3, rows, columns)))


def test_a_stack_is_its_planes(denoiser: Denoiser, cases: Cases, tally: Tally) -> None:
    number, survived = cases(60, 2), 0
    for case in range(number):
        stack = image(case)
        whole = results(denoiser, stack)
        for index, plane in enumerate(stack):
            steps = predict_steps(denoiser.model, plane[None], ("direct", "mean"), samples=3, seed=2, first=index)
            alone = drain(steps) | {"std": denoiser.std(plane)[None]}
            survived += all(np.array_equal(alone[name][0], whole[name][index]) for name in alone)  # type: ignore[index]
    tally("planes of a stack, alone", 3 * number, survived)


def tiled_error(denoiser: Denoiser, plane: Images, tile: int) -> float:
    outputs: tuple[Output, ...] = ("direct", "std")
    whole = results(denoiser, plane, outputs)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tiling, "DIRECT_TILE", tile)
        cut = results(denoiser, plane, outputs)
    return max(float(np.abs(cut[name] - whole[name]).max()) / LEAST_NOISE for name in outputs)


def test_tiles_are_the_whole_plane_to_a_thousandth_of_the_noise(denoiser: Denoiser, cases: Cases, tally: Tally) -> None:
    number, survived = cases(150, 3), 0
    for case in range(number):
        tile = int(np.random.default_rng([6, case]).integers(8, 40))
        survived += tiled_error(denoiser, image(case, 260)[0], tile) < 1e-3
    tally("planes in tiles", number, survived)


@pytest.mark.slow
def test_tiles_of_the_networks_of_the_package_are_the_whole_plane(cases: Cases, tally: Tally) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(PRESETS, "quick", PRESETS["balanced"])  # the same networks, with the weights of the package
        shipped = train(STACK, "TYX", f"poisson:{GAIN},{OFFSET},{READ}", max_steps=2, device="cpu")
    number, survived = cases(6, 1), 0
    for case in range(number):
        plane = simulate(planes=1, size=400, seed=case).noisy[0, : 280 + 23 * case, : 290 + 11 * case]
        survived += tiled_error(shipped, plane, 48) < 1e-3
    tally("planes in tiles of the shipped networks", number, survived)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("factor", [1, 2])
def test_the_unet_sees_no_farther_than_its_reach(published: bool, factor: int) -> None:
    """Positive weights let everything through that the architecture lets through."""
    config = UNetConfig(filters=(2, 2, 2), blocks=1, space_to_depth=factor, published=published, std=not published)
    unet = UNet(config, 1).double()
    for parameter in unet.parameters():
        parameter.data.fill_(0.1)
    side = unet.multiple
    start = (unet.reach // side + 1) * side
    noisy = torch.ones(1, 1, 2 * side, 2 * start + side, dtype=torch.float64, requires_grad=True)
    outputs = unet.with_std(noisy) if config.std else (unet(noisy),)
    sum(output[..., start : start + side].sum() for output in outputs).backward()  # type: ignore[union-attr]
    assert noisy.grad is not None
    seen = noisy.grad[0, 0].abs().sum(0).nonzero()
    farthest = max(start - int(seen.min()), int(seen.max()) - (start + side - 1))
    assert unet.reach - 3 * side < farthest <= unet.reach


def test_the_seed_alone_decides_the_samples(denoiser: Denoiser, cases: Cases, tally: Tally) -> None:
    """Whatever memory is free, however the stack is cut, whatever was drawn before."""
    number, survived, outputs = cases(60, 2), 0, ("sample", "mean", "median")
    model = denoiser.model
    for case in range(number):
        rng, stack = np.random.default_rng([7, case]), image(case, 90)
        whole: Any = drain(predict_steps(model, stack, outputs, samples=5, seed=case))  # type: ignore[arg-type]
        cut, batch = int(rng.integers(1, 3)), int(rng.integers(1, 4))
        torch.manual_seed(int(rng.integers(99)))
        with pytest.MonkeyPatch.context() as patched:
            predict._WARNED.add(model)
            room = float(rng.uniform(0.5, 5)) * model.pixel_bytes * stack[0].size
            patched.setattr(predict, "available_memory", lambda device, room=room: room)
            patched.setattr(tiling, "BATCH_BYTES", batch * model.pixel_bytes * stack[0].size)
            parts: list[Any] = [
                drain(predict_steps(model, part, outputs, samples=5, seed=case, first=first))  # type: ignore[arg-type]
                for part, first in ((stack[:cut], 0), (stack[cut:], cut))
            ]
        survived += all(
            np.abs(np.concatenate([part[name] for part in parts], -3) - whole[name]).max() < 1e-4 * LEAST_NOISE
            for name in outputs
        )
    tally("stacks cut and drawn in other batches", number, survived)


def test_threads_agree_to_rounding(denoiser: Denoiser, cases: Cases, tally: Tally) -> None:
    """In prediction; all cases are those of training too."""
    survived, found, threads = 0, list[dict[Output, Images]](), (1, 2, 4)
    for number in threads:
        torch.set_num_threads(number)
        own = trained(STACK, f"poisson:{GAIN},{OFFSET},{READ}") if cases(1, 0) else denoiser
        found.append(results(own, image(0)))
        survived += all(np.abs(found[-1][name] - found[0][name]).max() < 1e-3 * LEAST_NOISE for name in OUTPUTS)
    tally("numbers of threads", len(threads), survived)


def test_a_gpu_gives_what_the_cpu_gives(denoiser: Denoiser, device: torch.device) -> None:
    """In float32; samples differ, because each kind of device has its own random numbers."""
    model, plane = denoiser.model, torch.from_numpy(image(1)[0, :64, :64].astype(np.float32))[None, None]
    height, width = (side // 4 * 4 for side in plane.shape[-2:])
    plane, before = plane[..., :height, :width], model.compute
    found = []
    try:
        for where in (torch.device("cpu"), device):
            model.to(where)
            model.compute = Compute(where, torch.float32, torch.contiguous_format)
            with torch.inference_mode():
                found.append([each.cpu() for each in model.direct_with_std(plane.to(where))])
    finally:
        model.to(before.device)
        model.compute = before
    for here, there in zip(*found, strict=True):
        assert float((here - there).abs().max()) < 1e-3 * LEAST_NOISE
