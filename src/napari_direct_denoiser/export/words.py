"""What the exported files say about a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .direct_pass import smallest_side

if TYPE_CHECKING:
    from ..denoiser import Denoiser

_LEARNED = {
    "l2": "the mean of the clean images that fit a noisy one",
    "l1": "the median of the clean images that fit a noisy one",
    "tukey": "the densest part of the clean images that fit a noisy one",
    "perceptual": "a sharp image, less near the truth pixel by pixel",
}


CITATIONS = {
    "Salmon and Krull, Direct Unsupervised Denoising, ICCV Workshops 2023": "10.48550/arXiv.2310.18116",
    "Prakash et al., Interpretable Unsupervised Diversity Denoising and Artefact Removal, ICLR 2022": (
        "10.48550/arXiv.2104.01374"
    ),
}
"""Publications of the Direct Denoiser and of HDN, and their DOI."""
LICENCE = "BSD-3-Clause"
"""Of this package, from whose weights training starts."""


def summary(denoiser: Denoiser) -> str:
    """Describe a model in two sentences."""
    return (
        "Removes the noise of one kind of microscopy image in one pass (Direct Denoiser), in counts of the camera. "
        f"Trained on noisy images alone with napari-direct-denoiser {denoiser.provenance.version}. "
        f"Noise model: {denoiser.model.noise.describe()}."
    )


def describe(denoiser: Denoiser) -> str:
    """Describe a model, what it predicts, its input and its output."""
    loss = denoiser.model.config.loss
    learned = _LEARNED.get(loss, f"the {loss.partition(':')[2]} quantile of the clean images that fit a noisy one")
    return (
        f"{summary(denoiser)} It predicts {learned}. Input and output are planes in counts as the camera gives them, "
        f"not scaled (float32), with sides of at least {smallest_side(denoiser.model)} pixels. It is for images of the "
        "same camera, the same settings and the same kind of structure as those of the training."
    )


def readme(denoiser: Denoiser) -> str:
    """The documentation of a bioimage.io package, in Markdown."""
    provenance = denoiser.provenance
    settings = provenance.settings
    citations = "\n".join(f"- {text}, https://doi.org/{doi}" for text, doi in CITATIONS.items())
    return f"""# Direct Denoiser

{describe(denoiser)}

Training: preset {settings.preset}, loss {settings.loss}, {provenance.steps} steps in {provenance.seconds:.0f} s, seed
{settings.seed}. The teacher ({settings.teacher}), from whose samples it learned, is not in this package.

## Use

Give single planes in counts. Do not normalize them: that is a part of the network. The halo of {denoiser.model.halo}
pixels is the context that a tile needs; cut it off where tiles meet. Tiles must begin at multiples of
{denoiser.model.multiple} pixels, or seams are seen: pad images until both sides are multiples of it.

## Validation

The test image is simulated, with the noise model of this package. On your own images, compare the result with the
noisy image: their difference must look like noise, without structure. Images with another camera, gain or kind of
structure need a model of their own.

## Before you publish it

Put your name in place of *anonymous* into `rdf.yaml`. The licence is that of napari-direct-denoiser ({LICENCE}), from
whose weights training starts; replace it if yours is another one.

## Citation

{citations}
"""
