"""Denoise a zarr that may be larger than memory: planes are read, denoised and written one after the other.

python examples/stream_zarr.py [STACK.zarr]

Without a file, a simulated stack is written first. Writes model.safetensors and denoised.zarr. The command line does
the same with pixel sizes and a pyramid, and goes on after an interruption:

direct-denoiser denoise STACK.zarr --model model.safetensors --output denoised.zarr
"""

import sys

import dask.array as da

from napari_direct_denoiser import train
from napari_direct_denoiser.data.synthetic import simulate

source = sys.argv[1] if len(sys.argv) > 1 else "stack.zarr"
if len(sys.argv) == 1:
    da.from_array(simulate(planes=6, size=128).noisy, chunks=(1, 128, 128)).to_zarr(source, overwrite=True)

stack = da.from_zarr(source)  # nothing is read yet
print(f"{source}: {stack.shape}, {stack.nbytes / 1e6:.1f} MB")

# Training reads the patches that it needs. A part of the planes is enough.
denoiser = train(stack[:4], axes="TYX", max_minutes=1)
denoiser.save("model.safetensors")

denoised = denoiser.denoise(stack, axes="TYX")  # a dask array: each plane is denoised when it is written
denoised.to_zarr("denoised.zarr", overwrite=True)
print(f"denoised.zarr: {da.from_zarr('denoised.zarr').shape}")
