"""Draw how the two networks learn, with images of a model: writes docs/images/method.svg.

python docs/method_picture.py [STEPS]
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_direct_denoiser import train
from napari_direct_denoiser.data.synthetic import simulate

OUTPUT = Path(__file__).parent / "images" / "method.svg"
CROP, SIDE = np.s_[60:156, 60:156], 96
BLUE, RED, GRAY = "#0072b2", "#d55e00", "#666666"


def picture(image: NDArray[np.floating], levels: tuple[float, float]) -> str:
    """Give a crop as a PNG in a data address."""
    low, high = levels
    pixels = (255 * ((image[CROP] - low) / (high - low)).clip(0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def panel(x: int, y: int, title: str, content: str) -> str:
    """Place an image with its title above it."""
    return (
        f'<text x="{x + SIDE / 2}" y="{y - 6}">{title}</text>'
        f'<image x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" href="{content}"/>'
    )


def box(x: int, y: int, width: int, colour: str, *lines: str) -> str:
    """Draw a network."""
    words = "".join(
        f'<text x="{x + width / 2}" y="{y + 26 + 16 * n}" fill="white">{line}</text>' for n, line in enumerate(lines)
    )
    return f'<rect x="{x}" y="{y}" width="{width}" height="64" rx="6" fill="{colour}"/>{words}'


def arrow(colour: str, *points: tuple[int, int], dashed: bool = False) -> str:
    """Draw an arrow through some points; dashed where only a loss is computed."""
    path = " ".join(f"{x},{y}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes} marker-end="url(#tip)"/>'


def main(steps: int) -> None:
    """Train, draw samples, and arrange all in two rows: HDN above, the Direct Denoiser below."""
    stack = simulate()
    denoiser = train(stack.noisy, max_steps=steps)
    noisy = stack.noisy[0]
    levels = tuple(np.percentile(stack.truth[0], (0.5, 99.8)))
    samples = denoiser.sample(noisy, 3)
    shown = {"mean": denoiser.posterior_mean(noisy, 100), "direct": denoiser.denoise(noisy)}
    parts = [
        panel(10, 130, "noisy image x", picture(noisy, levels)),
        box(160, 58, 170, BLUE, "HDN", "encode, draw z, decode"),
        *(panel(380 + 110 * n, 42, f"sample {n + 1}", picture(sample, levels)) for n, sample in enumerate(samples)),
        panel(780, 42, "mean of 100", picture(shown["mean"], levels)),
        box(160, 236, 170, RED, "Direct Denoiser h", "one pass"),
        panel(780, 220, "h(x)", picture(shown["direct"], levels)),
        arrow(GRAY, (110, 165), (130, 165), (130, 90), (154, 90)),
        arrow(GRAY, (110, 195), (130, 195), (130, 268), (154, 268)),
        arrow(BLUE, (334, 90), (374, 90)),
        arrow(BLUE, (700, 90), (774, 90)),
        arrow(RED, (334, 268), (774, 268)),
        arrow(BLUE, (428, 142), (428, 196), (245, 196), (245, 230), dashed=True),
        '<text x="440" y="186" class="left">one sample is the target (eq. 7)</text>',
        f'<text x="245" y="146" fill="{BLUE}">likelihood and KL (eq. 3)</text>',
        '<text x="737" y="80">average</text>',
    ]
    OUTPUT.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 890 330" font-family="sans-serif" font-size="13" '
        'text-anchor="middle"><style>.left{text-anchor:start}</style><defs><marker id="tip" markerWidth="8" '
        f'markerHeight="8" refX="6" refY="3" orient="auto"><path d="M0,0 L7,3 L0,6 z" fill="{GRAY}"/></marker></defs>'
        '<rect width="890" height="330" fill="white"/>' + "".join(parts) + "</svg>\n"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1500)
