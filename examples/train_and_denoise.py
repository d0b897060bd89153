"""Train on a noisy stack, denoise it in one pass, and say how good the result is.

python examples/train_and_denoise.py [STACK.tif]

Without a file, a simulated stack is used. Writes model.safetensors and denoised.tif.
"""

import sys

import tifffile

from napari_direct_denoiser import train
from napari_direct_denoiser.data.synthetic import simulate

stack = tifffile.imread(sys.argv[1]) if len(sys.argv) > 1 else simulate(planes=4, size=128).noisy

denoiser = train(stack, max_minutes=1)
print(f"{denoiser.provenance.steps} steps; noise: {denoiser.model.noise.describe()}")

last = denoiser.provenance.history[-1]
if last.estimated_gain_db is not None:
    print(f"better than the best blur by {last.estimated_gain_db:.2f} +- {last.estimated_gain_error_db:.2f} dB")
else:
    print(last.estimated_gain_why)

denoiser.save("model.safetensors")
tifffile.imwrite("denoised.tif", denoiser.denoise(stack), photometric="minisblack")
