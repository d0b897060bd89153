"""Calibrate a camera whose neighbouring pixels share noise, and denoise its images.

python examples/correlated_noise.py

The noise of pixels in a row is correlated here, as it is in images of a resonant scanner. Writes camera.json.
"""

import torch

from napari_direct_denoiser import estimate_noise, fit_calibration, read_noise, train, write_noise
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.evaluation.metrics import evaluate
from napari_direct_denoiser.noise import parse_noise

# A camera of gain 2, offset 100 and read noise 3. Half of the noise of a pixel goes on to the next one in its row.
camera = parse_noise("poisson:2,100,3+x:0.5")


def record(truth, seed):
    """Give clean images (planes, Y, X) the noise of this camera."""
    signal = torch.from_numpy(truth)
    return camera.sample(signal, torch.Generator().manual_seed(seed)).numpy()


images = simulate(planes=4, size=128)
noisy = record(images.truth, seed=1)

# A calibration: 20 frames of one static scene. It finds that the noise is correlated, and models it.
scene = simulate(planes=1, size=128, seed=7).truth
frames = record(scene.repeat(20, axis=0), seed=2)
fit = fit_calibration(frames, axes="TYX")
print("calibrated:", fit.model.describe())
print("correlation 1, 2, 3 pixels along x:", fit.autocorrelation.along_x[1:4].round(2))

write_noise("camera.json", fit)
denoiser = train(noisy, noise=read_noise("camera.json"), max_minutes=1)
print(f"noisy    {evaluate(noisy, images.truth).psnr:.2f} dB")
print(f"denoised {evaluate(denoiser.denoise(noisy), images.truth).psnr:.2f} dB")

# Without a calibration, train finds the noise and its correlation in the images. estimate_noise finds the camera alone.
print("estimated from the images:", estimate_noise(noisy).describe())
