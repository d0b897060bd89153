"""The state of a training: all that its next steps depend on, as plain containers of numbers, texts and tensors.

The parts of a training give theirs by ``state()`` and take it by ``restore()``. What follows from the images is not in
it, and is made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from ..co_model import CoModel
from ..config import TrainSettings
from ..data.images import spread_over
from ..errors import ImageError, ModelFileError, SettingError

State = dict[str, Any]
"""Names and what they stand for: dicts, lists, tuples, texts, numbers, truth values, None and tensors."""

_MAY_CHANGE = ("max_minutes", "max_steps", "device")  # of an interrupted training
_PARTS = ("images", "frame_steps", "before", "calibrated", "training")  # of the state of a course
_PLANES = 16  # of all images together, whose pixels tell them from others


def pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn a state into JSON that refers to ``tensors``, to which its tensors are added."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):  # keys may be numbers
        return {"dict": [[key, pack(each, tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [pack(each, tensors) for each in value]}
    return value


def unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo `pack`."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unpack(each, tensors) for key, each in content}
    values = [unpack(each, tensors) for each in content]
    return tuple(values) if kind == "tuple" else values


def model_state(model: CoModel) -> State:
    """Weights, and what HDN's samples are corrected by."""
    return {
        "weights": dict(model.state_dict()),
        "correction": (model.normalization.hdn_scale, model.normalization.hdn_shift),
    }


def restore_model(model: CoModel, state: State) -> None:
    """Put a `model_state` into a model of the same shape."""
    model.load_state_dict(state["weights"])
    model.correct_bias(*state["correction"])


def optimizer_state(optimizer: Optimizer) -> State:
    """Moments and learning rates."""
    state = optimizer.state_dict()
    return {"moments": state["state"], "rates": [group["lr"] for group in state["param_groups"]]}


def restore_optimizer(optimizer: Optimizer, state: State) -> None:
    """Put an `optimizer_state` into an optimizer of the same weights, perhaps on another device."""
    groups = optimizer.state_dict()["param_groups"]
    groups = [{**group, "lr": rate} for group, rate in zip(groups, state["rates"], strict=True)]
    optimizer.load_state_dict({"state": state["moments"], "param_groups": groups})
    for weight, moments in optimizer.state.items():
        for name, moment in moments.items():
            if moment.shape == weight.shape:  # in the memory format of the weight, as they were: fused kernels need it
                moments[name] = torch.empty_like(weight, dtype=moment.dtype).copy_(moment)


def fingerprint(stacks: Sequence[NDArray[Any]]) -> State:
    """Shapes and a checksum of some planes of images (planes, Y, X), which tell them from others."""
    planes = [(stack, index) for stack in stacks for index in range(len(stack))]
    digest = hashlib.sha256()
    for number in spread_over(len(planes), _PLANES):
        stack, index = planes[number]
        digest.update(np.ascontiguousarray(stack[index]).tobytes())
    shapes = [f"{stack.dtype} {' x '.join(map(str, stack.shape))}" for stack in stacks]
    return {"shapes": shapes, "sha256": digest.hexdigest()}


def check_fingerprint(stacks: Sequence[NDArray[Any]], expected: State, path: str | Path) -> None:
    """Raise `ImageError` if a training, saved in a file, was one of other images."""
    found = fingerprint(stacks)
    if found == expected:
        return
    if found["shapes"] != expected["shapes"]:
        what = f"images of shape {', '.join(expected['shapes'])}, found {', '.join(found['shapes'])}"
    else:
        what = "the images of the interrupted training, found others of the same shape"
    raise ImageError(f"Expected {what}: give the same images in the same order, or delete {path} to start anew")


def take_up(model: CoModel, stacks: Sequence[NDArray[Any]], state: State, path: str | Path) -> None:
    """Put the weights of an interrupted training, saved in a file, into a model.

    Raises `ImageError` if it was one of other images than these, and `ModelFileError` if it lacks a part.
    """
    try:
        parts = {name: state[name] for name in _PARTS}
        check_fingerprint(stacks, parts["images"], path)
        restore_model(model, parts["training"]["validator"]["model"])
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} lacks a part of the training: delete it to start anew") from error


def same_settings(expected: TrainSettings, found: TrainSettings, path: str | Path) -> TrainSettings:
    """Settings to go on with: those of an interrupted training with the limits and the device of others.

    Limits stay if none is given. Raises `SettingError` if other settings differ.
    """
    for name in TrainSettings.model_fields:
        before, now = getattr(expected, name), getattr(found, name)
        if name not in _MAY_CHANGE and before != now:
            raise SettingError(
                f"Expected {name} {before}, with which the training of {path} began, found {now}: "
                "use the same settings, or delete that file to start anew"
            )
    names = ("device",) if found.max_minutes is None and found.max_steps is None else _MAY_CHANGE
    return expected.model_copy(update={name: getattr(found, name) for name in names})
