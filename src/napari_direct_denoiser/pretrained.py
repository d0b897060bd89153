"""The weights that training starts from: learned on simulated images by ``scripts/pretrain.py``, and shipped."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from .co_model import CoModel

WEIGHTS = Path(__file__).parent / "weights" / "quick.safetensors"
"""Of both networks of the quick preset, in half precision."""


def start_from_pretrained(model: CoModel) -> None:
    """Give a model with the networks of the quick preset the shipped weights."""
    model.load_state_dict(load_file(WEIGHTS))
