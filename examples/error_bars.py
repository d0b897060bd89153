"""Check the predicted standard deviation against the truth, and show where posterior samples disagree.

python examples/error_bars.py

The truth of simulated images is known. Of real images it is not: there the standard deviation is all there is.
"""

import numpy as np

from napari_direct_denoiser import train
from napari_direct_denoiser.data.synthetic import simulate

images = simulate(planes=4, size=128)
denoiser = train(images.noisy, max_minutes=1)

direct = denoiser.denoise(images.noisy)
std = denoiser.std(images.noisy)  # of the error of the direct pass, from the same pass
error = direct - images.truth
for factor, expected in ((1, 68.3), (2, 95.4)):
    share = 100 * np.mean(np.abs(error) < factor * std)
    print(f"truth within {factor} standard deviations: {share:.1f} % of the pixels (normal errors: {expected} %)")

# Posterior samples: measure what you are interested in once for each of them, and report the spread.
samples = denoiser.sample(images.noisy[0], 20)
threshold = np.percentile(direct[0], 90)
area = (samples > threshold).sum(axis=(1, 2))
print(f"bright area: {area.mean():.0f} +- {area.std():.0f} pixels; in the truth {(images.truth[0] > threshold).sum()}")
y, x = np.unravel_index(samples.std(axis=0).argmax(), samples.shape[1:])
low, high = samples[:, y, x].min(), samples[:, y, x].max()
print(f"the samples disagree most at y {y}, x {x}: from {low:.0f} to {high:.0f} counts")
