"""Base of the three docks: a choice of layer, one run at a time, progress and result of the run, closing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QPalette, QResizeEvent
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

from .activity import Activity
from .forms import duration
from .layer_choice import LayerChoice
from .open_dock import tabify
from .workers import Job, Steps, Update

if TYPE_CHECKING:
    import napari

_LOG = logging.getLogger(__name__)
_ERROR_COLOUR = "#e5534b"  # readable on napari's dark and light theme
_ARROW_COLOUR = "#999999"  # visible on both


class _VerticalScrollArea(QScrollArea):
    """A scroll area as wide as its content, with a vertical bar where the content is too high."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        """The full width of the content; the height may shrink."""
        width = self.widget().minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return QSize(width, 200)

    def sizeHint(self) -> QSize:
        """The size at which no scroll bar is needed."""
        return self.widget().sizeHint().expandedTo(self.minimumSizeHint())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Adapt when the content grows or shrinks."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


class _Section(QCollapsible):
    """A collapsible section. The dock scrolls to it when it has grown."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._grown = QTimer(self)
        self._grown.setSingleShot(True)
        self._grown.timeout.connect(self._scroll_to)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Wait until the dock is laid out."""
        super().resizeEvent(event)
        if self.isExpanded() and event.size().height() > event.oldSize().height():
            self._grown.start(50)

    def _scroll_to(self) -> None:
        area = self.parentWidget()
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parentWidget()
        if area is not None:
            area.ensureWidgetVisible(self, 0, 8)


class RunDock(QWidget):
    """A dock with one job. A subclass lays out the controls and implements what happens when the job ends."""

    name = ""
    """Name of the dock in the manifest."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.layer_choice = LayerChoice(viewer)
        self.progress = QProgressBar()
        self.progress.setToolTip("Progress of the run, and the time left.")
        self.progress.setMinimumHeight(22)
        self.progress.setTextVisible(True)
        self.stop_button = QPushButton("Stop")
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.hide()
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.status.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.job = Job(self)
        self._activity = Activity(self.job, f"Direct Denoiser: {self.name}")
        self.job.updated.connect(self.show_update)
        self.job.succeeded.connect(self.on_success)
        self.job.stopped.connect(self.on_stop)
        self.job.failed.connect(self.on_failure)
        self.job.turns.ended.connect(self.refresh_buttons)
        self.stop_button.clicked.connect(self._stop)
        self.layer_choice.currentIndexChanged.connect(self.refresh_buttons)
        self._docked = self._closed = False
        self._hint = ""

    # For subclasses to implement.
    def refresh_buttons(self) -> None:
        """Enable the controls that can be used now."""
        raise NotImplementedError

    def on_success(self, result: Any) -> None:
        """Handle the result of the job."""
        raise NotImplementedError

    def on_stop(self) -> None:
        """Handle a job that was stopped."""
        self.end("Stopped.")

    def on_failure(self, error: Exception) -> None:
        """Show an error in the dock and as a notification. The traceback of an unexpected one goes to the log."""
        if error.__cause__ is not None:
            _LOG.error(error, exc_info=error.__cause__)
        self.end(str(error), error=True)
        show_error(str(error))

    # Shared by all docks.
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
        """Show what is missing before a run can start, unless another message is shown. No words remove the hint."""
        if self.status.text() in ("", self._hint):
            self.say(words)
            self._hint = words

    def say(self, words: str, *, error: bool = False) -> None:
        """Show a message in the dock."""
        self.status.setStyleSheet(f"color: {_ERROR_COLOUR}" if error else "")
        self.status.setText(words)
        self.status.setVisible(bool(words))

    def show_update(self, update: Update) -> None:
        """Show the progress of the run."""
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
        """Set the layout of the controls, in a scroll area: the dock never makes the window higher."""
        inner, area = QWidget(), _VerticalScrollArea()
        inner.setLayout(column)
        area.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def progress_row(self) -> QHBoxLayout:
        """Progress bar with the Stop button beside it."""
        row = QHBoxLayout()
        row.addWidget(self.progress, 1)
        row.addWidget(self.stop_button)
        return row

    def close_down(self) -> None:
        """Ask the run to stop and disconnect from the viewer: the dock or the viewer is being closed."""
        self.job.shutdown()
        self._activity.end()
        self.layer_choice.release()

    def _stop(self) -> None:
        self.stop_button.setEnabled(False)
        self.say("Stopping after this step …")
        self.job.stop()

    def _watch_window(self) -> None:
        """Watch for the viewer to close. A dock may float: the main window is the last of its parents."""
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
        """Close down when a script closes the viewer. A person may still cancel closing the window, so not then."""
        if event.type() == QEvent.Type.Close and not event.spontaneous():
            self._close_once()
        return False

    def changeEvent(self, event: QEvent) -> None:
        """Close down when napari closes the dock: it only takes it out of its parent. Join the other docks as a tab."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange:
            if self._docked and self.parent() is None:
                self._close_once()
            if not self._docked and self.parent() is not None:
                QTimer.singleShot(0, self._tabify)  # napari has not put the dock into its window yet
            self._docked = self.parent() is not None

    def _tabify(self) -> None:
        if self._docked and not self._closed:
            tabify(self, RunDock)


def main_button(text: str) -> QPushButton:
    """Make the main button of a dock: higher, and bold."""
    button = QPushButton(text)
    button.setMinimumHeight(32)
    font = button.font()
    font.setBold(True)
    button.setFont(font)
    return button


def collapsed(title: str, tooltip: str, content: QWidget) -> QCollapsible:
    """Make a section that is collapsed under its title."""
    section = _Section(title)
    section.layout().setContentsMargins(0, 0, 0, 0)
    section.layout().setSpacing(0)
    section.addWidget(content)
    button = section.toggleButton()
    button.setToolTip(tooltip)
    palette = button.palette()
    palette.setColor(QPalette.ColorRole.WindowText, QColor(_ARROW_COLOUR))  # the icons are painted in it, once
    button.setPalette(palette)
    section.setCollapsedIcon("▶")
    section.setExpandedIcon("▼")
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


def side_by_side(*parts: QWidget) -> QHBoxLayout:
    """Put widgets beside each other."""
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        row.addWidget(part)
    return row
