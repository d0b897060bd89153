"""The command ``train``."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ..config import Device, PresetChoice, StudentSize, Teacher, TrainSettings
from ..errors import DenoiserError, ImageError, SettingError, TrainingError
from ..progress import HARDLY_DB, best_result, mean_words
from .console import print_json, progress_bars, say
from .options import FileAxes, Json, channel_of, setting

if TYPE_CHECKING:
    from ..data.image_file import ImageFile
    from ..denoiser import Denoiser
    from ..progress import TrainingProgress
    from ..training.provenance import Record
    from ..training.world import World

_TRAIN = TrainSettings()
_OF_STUDENT = {"loss", "student_only", "student_size", "max_minutes", "max_steps", "device"}
_SAVE_SECONDS = 50.0  # between saves of the model so far: with steps of up to 10 s, at least once a minute


Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE", help="Noisy images: TIFF, npy or zarr, folders of them, or patterns.")
]
Target = Annotated[Path, typer.Option(metavar="M.safetensors", help="Model file to write.")]
_FIELDS = TrainSettings.model_fields
TeacherChoice = Annotated[
    str,
    typer.Option(
        metavar="hdn|divnoising|M.safetensors",
        help=f"{_FIELDS['teacher'].description} With a model file: {_FIELDS['student_only'].description}",
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(
        metavar="N|each",
        help="Channel to train on, from 0; or each: one model a channel, M-c0.safetensors, M-c1.safetensors ...",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with an interrupted training of these images, to the same weights; from the beginning if there is "
        "none. Limits and device may be others than before.",
    ),
]


def train(
    images: Images,
    model: Target,
    preset: Annotated[PresetChoice, setting(_TRAIN, "preset")] = _TRAIN.preset,
    noise: Annotated[str, setting(_TRAIN, "noise")] = _TRAIN.noise,
    refine_noise: Annotated[bool, setting(_TRAIN, "refine_noise", "--refine-noise")] = _TRAIN.refine_noise,
    loss: Annotated[str, setting(_TRAIN, "loss")] = _TRAIN.loss,
    teacher: TeacherChoice = _TRAIN.teacher,
    student_size: Annotated[StudentSize, setting(_TRAIN, "student_size")] = _TRAIN.student_size,
    structured: Annotated[bool, setting(_TRAIN, "structured", "--structured")] = _TRAIN.structured,
    axes: FileAxes = None,
    channel: Channels = None,
    max_minutes: Annotated[float | None, setting(_TRAIN, "max_minutes")] = _TRAIN.max_minutes,
    max_steps: Annotated[int | None, setting(_TRAIN, "max_steps")] = _TRAIN.max_steps,
    seed: Annotated[int, setting(_TRAIN, "seed")] = _TRAIN.seed,
    device: Annotated[Device, setting(_TRAIN, "device")] = _TRAIN.device,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train a model on noisy images. Ctrl-C or a termination signal stops and keeps the model so far.

    The best model so far is also written every minute, and beside it M.resume.safetensors, from which --resume goes on.
    Several processes train one model together if torchrun starts them.
    """
    if channel not in (None, "each") and not channel.isdecimal():
        raise typer.BadParameter(f"expected a number from 0, or each, found {channel}", param_hint="--channel")
    choices = {"preset": preset, "noise": noise, "refine_noise": refine_noise, "structured": structured, "seed": seed}
    others: dict[str, Any] = {"max_minutes": max_minutes, "max_steps": max_steps, "device": device}
    others |= {"loss": loss, "student_size": student_size}
    if teacher in get_args(Teacher):
        settings, finished = TrainSettings(**choices, **others, teacher=teacher), None
    else:
        settings, finished = _of_teacher(Path(teacher), others, choices)
    from ..checkpoint import check_model_output
    from ..data.io import open_image
    from ..data.many import find_images

    check_model_output(model)
    paths = find_images(images)
    files = [open_image(path) for path in paths]
    targets = _targets(model, files, axes, channel)
    for path in targets:
        check_model_output(path)

    def prepare(path: Path, number: int | None) -> tuple[Denoiser, str]:
        return _prepared(files, paths, axes, number, settings, path if resume else None, finished)

    results = _train_all({path: partial(prepare, path, number) for path, number in targets.items()})
    if as_json and results:
        sums = {name: sum(each[name] for each in results) for name in ("steps", "seconds")}
        print_json(**{**results[-1], **sums}, **({"models": results} if channel == "each" else {}))


def _of_teacher(path: Path, others: dict[str, Any], choices: dict[str, Any]) -> tuple[TrainSettings, Denoiser]:
    """Settings of a student of a finished model, and the model."""
    from ..denoiser import load

    given = ["--" + name.replace("_", "-") for name, value in choices.items() if value != getattr(_TRAIN, name)]
    if path.suffix != ".safetensors":
        raise SettingError(f"Expected hdn, divnoising or a model file as teacher, found {path}: choose one of them")
    if given:
        raise SettingError(
            f"Expected a teacher from a file to keep its settings, found {' and '.join(given)}: leave that out, or "
            "train a new teacher"
        )
    finished = load(path, "cpu")  # a copy of it goes to the device
    settings = finished.provenance.settings.model_dump()
    return TrainSettings(**{**settings, **others, "student_only": True, "refine_noise": False}), finished


def _train_all(preparations: dict[Path, Callable[[], tuple[Denoiser, str]]]) -> list[dict[str, Any]]:
    """Train a model for each file to write; gives what ``--json`` tells of each, in the first process only."""
    from ..training.world import joined

    with joined() as world:
        # All of them before the first is trained, so that errors come before any work.
        runs = [_Run(path, world, *prepare()) for path, prepare in preparations.items()]
        with _stop_requests(at_once=world.size == 1) as stop:
            results = []
            for run in runs:
                results.append(run.to_end(stop))
                if stop.is_set():
                    break
    return results if world.is_first else []


def _targets(model: Path, files: Sequence[ImageFile], axes: str | None, channel: str | None) -> dict[Path, int | None]:
    """Model files to write, and the channel that each is trained on."""
    if channel != "each":
        return {model: None if channel is None else int(channel)}
    from ..data.images import channel_count

    counts = {channel_count(file.data.shape, axes or file.axes) for file in files}
    if len(counts) > 1 or counts == {1}:
        found = " and ".join(map(str, sorted(counts)))
        raise ImageError(
            f"Expected images with the same number of channels, 2 or more, found {found}: name the axes, for example "
            "--axes TCYX, or leave --channel out"
        )
    return {model.with_name(f"{model.stem}-c{number}{model.suffix}"): number for number in range(counts.pop())}


def _prepared(
    files: Sequence[ImageFile],
    paths: Sequence[Path],
    axes: str | None,
    channel: int | None,
    settings: TrainSettings,
    resumed: Path | None,
    teacher: Denoiser | None = None,
) -> tuple[Denoiser, str]:
    """Check the images, or one channel of them, and make the model to train: untrained, or that of ``resumed``.

    With a teacher it is a copy of that, whose Direct Denoiser alone learns.

    The second is what to say of it.
    """
    from ..checkpoint import resume_path
    from ..denoiser import Denoiser, load
    from ..training.students import name_of

    names = [str(path) for path in paths]
    opened = [channel_of(file, axes, channel, name) for file, name in zip(files, names, strict=True)]
    arrays, known_axes = [file.data for file, _ in opened], [axes for _, axes in opened]
    if resumed is not None and resume_path(resumed).exists():
        denoiser = Denoiser.resumed(resume_path(resumed), arrays, settings, known_axes, names=names)
        return denoiser, f"Goes on with {resume_path(resumed)} after {denoiser.provenance.steps} steps"
    if resumed is not None and resumed.exists():
        denoiser = load(resumed, settings.device)
        is_teacher = teacher is not None and denoiser.provenance == teacher.provenance
        if denoiser.provenance.stopped is not None and not (is_teacher and name_of(settings) not in denoiser.students):
            denoiser.check_settings(settings, resumed)
            return denoiser, f"{resumed} is finished: nothing to do"
    words = "" if resumed is None else f"No interrupted training of {resumed}: begins from the beginning"
    if teacher is None:
        return Denoiser.for_images(arrays, settings, axes=known_axes, names=names), words
    changed = settings.model_dump(include=_OF_STUDENT)
    return teacher.continued(arrays, known_axes, names=names, **changed), words


@dataclass
class _Run:
    """One training, and the file that its model is written to."""

    path: Path
    world: World
    denoiser: Denoiser
    words: str

    def to_end(self, stop: threading.Event) -> dict[str, Any]:
        """Train to the end or until a signal, and write the model; what ``--json`` tells of it."""
        self._say(self.words)
        provenance = self.denoiser.provenance
        if provenance.stopped is not None:
            self._remove_resume_file()
            return self._result(provenance.steps, provenance.seconds, provenance.stopped, provenance.history[-1])
        self._say(f"Noise: {self.denoiser.model.noise.describe()}")
        for finding in self.denoiser.findings:
            self._say(f"Note: {finding.words}")
        last = self._train(stop)
        stopped = last.stopped or "interrupted"
        self._say(f"{self.path}: {last.step} steps in {last.elapsed_seconds:.0f} s ({stopped})")
        if self.denoiser.provenance.learned_frames:
            self._say("Learned from other frames of the static scene, too")
        for words in _judged(last):
            self._say(words)
        return self._result(last.step, last.elapsed_seconds, stopped, last)

    def _train(self, stop: threading.Event) -> TrainingProgress:
        from ..checkpoint import resume_path

        last: TrainingProgress | None = None
        saved = time.monotonic()
        with progress_bars() if self.world.is_first else nullcontext(_tell_nothing) as report:
            for last in self.denoiser.train_steps(world=self.world):
                report("training", last)
                # One for all: the others would wait for steps that one does not take.
                due = self.world.is_first and time.monotonic() - saved >= _SAVE_SECONDS
                is_stopped, is_due = self.world.greatest(stop.is_set(), due)
                if last.stopped is not None:
                    break
                if is_stopped or is_due:
                    self._write(self.denoiser.save_training, resume_path(self.path), must=bool(is_stopped))
                    self._write(self._save, self.path, must=bool(is_stopped))
                    saved = time.monotonic()
                if is_stopped:
                    return last
        if last is None:
            raise TrainingError("Training ended before its first step, there is no model to keep: start it again")
        self._save(self.path)
        self._remove_resume_file()
        return last

    def _remove_resume_file(self) -> None:
        """Remove the file to resume from, and drafts of it that killed processes left."""
        from ..checkpoint import resume_path
        from ..data.files import remove

        if self.world.is_first:
            remove(resume_path(self.path))

    def _save(self, path: Path) -> None:
        if self.world.is_first:
            self.denoiser.save(path)

    def _write(self, write: Callable[[Path], None], path: Path, *, must: bool) -> None:
        """Write a file. The training is worth more than this copy, unless it is the last."""
        try:
            write(path)
        except DenoiserError as error:
            if must:
                raise
            self._say(f"Note: {error}")

    def _say(self, words: str) -> None:
        if words and self.world.is_first:
            say(words)

    def _result(self, steps: int, seconds: float, stopped: str, judged: TrainingProgress | Record) -> dict[str, Any]:
        return {
            "steps": steps,
            "seconds": seconds,
            "stopped": stopped,
            "model": str(self.path),
            "estimated_gain_db": judged.estimated_gain_db,
            "estimated_gain_error_db": judged.estimated_gain_error_db,
            "estimated_gain_why": judged.estimated_gain_why,
            "recommended": best_result(
                judged.estimated_gain_db, judged.estimated_over_mean_db, judged.estimated_over_mean_error_db
            ),
        }


def _tell_nothing(work: str, progress: TrainingProgress) -> None:
    """The first process tells for all."""


def _judged(last: TrainingProgress) -> list[str]:
    """Say how good the model is, and whether longer training would help."""
    if last.estimated_gain_db is None or last.estimated_gain_error_db is None:
        return [] if last.estimated_gain_why is None else [f"Quality is not known. {last.estimated_gain_why}"]
    gain = f"{last.estimated_gain_db:.2f} dB (standard error {last.estimated_gain_error_db:.2f})"
    words = [f"Estimated gain over the best Gaussian blur: {gain}"]
    if last.estimated_gain_db < HARDLY_DB:
        words.append("A blur would do as well")
    over_mean = last.estimated_over_mean_db, last.estimated_over_mean_error_db
    if (mean := mean_words(last.estimated_gain_db, *over_mean)) is not None:
        words.append(f"{mean}: denoise with --method mean where time allows")
    if last.estimated_rise_db is not None:
        would = "would hardly help" if last.estimated_rise_db < HARDLY_DB else "may help"
        words.append(
            f"The second half of the training brought {last.estimated_rise_db:.2f} dB: longer training {would}"
        )
    return words


@contextmanager
def _stop_requests(*, at_once: bool) -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a request to stop after this step; a SIGINT after that stops at once.

    Not ``at_once`` if torchrun started this process: it hands a SIGINT on that the process got from the terminal too.
    """
    requested = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        if at_once and requested.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        requested.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
