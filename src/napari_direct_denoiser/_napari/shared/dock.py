"""What the docks have in common: a choice of layer, one run at a time, its progress, its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from .forms import duration
from .layer_choice import LayerChoice
from .workers import Job, Steps, Update

if TYPE_CHECKING:
    import napari

_LOG = logging.getLogger(__name__)
_ERROR_COLOUR = "#e5534b"  # readable on napari's dark and light theme


class _VerticalScrollArea(QScrollArea):
    """As wide as its content, with a bar where that is too high."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        """Let the height shrink, the width not."""
        width = self.widget().minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return QSize(width, 200)

    def sizeHint(self) -> QSize:
        """The size at which no bar is needed."""
        return self.widget().sizeHint().expandedTo(self.minimumSizeHint())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the content when it grows or shrinks."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


class RunDock(QWidget):
    """A dock with one job. A subclass lays out its controls and says what happens when the job ends."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.layer_choice = LayerChoice(viewer)
        self.progress = QProgressBar()
        self.progress.setToolTip("How far the run is, and the time left.")
        self.progress.setMinimumHeight(22)
        self.progress.setTextVisible(True)
        self.stop_button = QPushButton("Stop")
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.hide()
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.status.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.job = Job(self)
        self.job.updated.connect(self.show_update)
        self.job.succeeded.connect(self.on_success)
        self.job.stopped.connect(self.on_stop)
        self.job.failed.connect(self.on_failure)
        self.stop_button.clicked.connect(self._stop)
        self.layer_choice.currentIndexChanged.connect(self.refresh_buttons)
        self._docked = self._closed = False
        self._hint = ""

    # What a subclass says.
    def refresh_buttons(self) -> None:
        """Enable what can be pressed now."""
        raise NotImplementedError

    def on_success(self, result: Any) -> None:
        """Take the result of the job."""
        raise NotImplementedError

    def on_stop(self) -> None:
        """Take note that the job was stopped."""
        self.end("Stopped.")

    def on_failure(self, error: Exception) -> None:
        """Show an error in the dock and as a notification; the traceback of one of our own goes to the log."""
        if error.__cause__ is not None:
            _LOG.error(error, exc_info=error.__cause__)
        self.end(str(error), error=True)
        show_error(str(error))

    # What they share.
    def begin(self, steps: Steps) -> None:
        """Start a run."""
        self._watch_window()
        self.progress.setRange(0, 0)  # busy, until the first update that has a fraction
        self.say("")
        self.job.start(steps)
        self.refresh_buttons()

    def end(self, words: str, *, error: bool = False, done: bool = False) -> None:
        """Show how a run, or an attempt to start one, ended."""
        self.progress.setRange(0, 1000)
        self.progress.setValue(1000 if done else 0)
        self.progress.setFormat("done" if done else "")
        self.say(words, error=error)
        self.refresh_buttons()

    def hint(self, words: str) -> None:
        """Say what is missing before a run can start, unless there is news; with no words, take it back."""
        if self.status.text() in ("", self._hint):
            self.say(words)
            self._hint = words

    def say(self, words: str, *, error: bool = False) -> None:
        """Show one line of text."""
        self.status.setStyleSheet(f"color: {_ERROR_COLOUR}" if error else "")
        self.status.setText(words)
        self.status.setVisible(bool(words))

    def show_update(self, update: Update) -> None:
        """Show how far the run is."""
        if not self.job_is_stopping:
            self.say(update.words)
        if update.fraction is None:
            return
        left = update.remaining_seconds
        self.progress.setRange(0, 1000)
        self.progress.setValue(round(1000 * update.fraction))
        self.progress.setFormat(f"{update.fraction:.0%}" + ("" if left is None else f" · {duration(left)} left"))

    @property
    def job_is_stopping(self) -> bool:
        """Whether Stop was pressed and the run has not ended yet."""
        return self.job.running and not self.stop_button.isEnabled()

    def fill(self, column: QLayout) -> None:
        """Lay out the controls. They scroll where the screen is low, rather than make the window higher."""
        inner, area = QWidget(), _VerticalScrollArea()
        inner.setLayout(column)
        area.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def progress_row(self) -> QHBoxLayout:
        """The progress bar with Stop beside it."""
        row = QHBoxLayout()
        row.addWidget(self.progress, 1)
        row.addWidget(self.stop_button)
        return row

    def close_down(self) -> None:
        """Stop the run and let go of the viewer: the dock or the viewer is being closed."""
        self.job.shutdown()
        self.layer_choice.release()

    def _stop(self) -> None:
        self.stop_button.setEnabled(False)
        self.say("Stopping after this step …")
        self.job.stop()

    def _watch_window(self) -> None:
        """Be told when the viewer closes. The dock may float: its main window is the last of its parents."""
        window: QWidget = self
        while window.parentWidget() is not None:
            window = window.parentWidget()
        if window is not self:
            window.installEventFilter(self)  # keep no reference: the dock would keep the window alive

    def _close_once(self) -> None:
        if not self._closed:
            self._closed = True
            self.close_down()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """See the viewer close from a script. A person may still refuse; then napari itself ends its workers."""
        if event.type() == QEvent.Type.Close and not event.spontaneous():
            self._close_once()
        return False

    def changeEvent(self, event: QEvent) -> None:
        """See the dock close: napari then takes it out of its parent, and nothing else happens to it."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange:
            if self._docked and self.parent() is None:
                self._close_once()
            self._docked = self.parent() is not None


def main_button(text: str) -> QPushButton:
    """Make the button that most people look for."""
    button = QPushButton(text)
    button.setMinimumHeight(32)
    font = button.font()
    font.setBold(True)
    button.setFont(font)
    return button


def collapsed(title: str, tooltip: str, content: QWidget) -> QCollapsible:
    """Hide a section behind its title."""
    section = QCollapsible(title)
    section.layout().setContentsMargins(0, 0, 0, 0)
    section.layout().setSpacing(0)
    section.toggleButton().setToolTip(tooltip)
    section.addWidget(content)
    return section


def stacked(*parts: QWidget | QLayout) -> QVBoxLayout:
    """Put widgets and rows one below the other."""
    column = QVBoxLayout()
    column.setContentsMargins(8, 8, 8, 8)
    column.setSpacing(8)
    for part in parts:
        if isinstance(part, QWidget):
            column.addWidget(part)
        else:
            column.addLayout(part)
    return column
