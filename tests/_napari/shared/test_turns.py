"""Steps that are spread over turns of the event loop."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QObject, QTimer

from napari_direct_denoiser._napari.shared.turns import Turns

pytestmark = pytest.mark.gui


@pytest.fixture
def parent(qapp):
    return QObject()


@pytest.fixture
def turns(parent):
    return Turns(parent)


def test_steps_come_in_their_order_and_other_events_between_them(turns, qtbot):
    seen = []

    def step(number):
        seen.append(number)
        QTimer.singleShot(0, lambda: seen.append("event"))

    with qtbot.waitSignal(turns.ended):
        for number in range(3):
            turns.add(str(number), lambda number=number: step(number))
        assert turns.waiting
        assert not seen  # none before the event loop turns
    assert seen == [0, "event", 1, "event", 2]
    assert not turns.waiting


def test_newer_step_takes_the_place_of_one_that_waits(turns, qtbot):
    seen = []
    with qtbot.waitSignal(turns.ended):
        for name in ("first", "second"):
            turns.add(name, lambda name=name: seen.append(f"old {name}"))
        turns.add("first", lambda: seen.append("new first"))
    assert seen == ["new first", "old second"]


def test_cleared_steps_are_forgotten(turns, qtbot):
    seen, ended = [], []
    turns.ended.connect(lambda: ended.append(True))
    turns.add("first", lambda: (seen.append("first"), turns.clear()))
    turns.add("second", lambda: seen.append("second"))
    qtbot.waitUntil(lambda: bool(seen))
    qtbot.wait(50)
    assert seen == ["first"]
    assert ended == [True]  # once
    assert not turns.waiting


def test_step_that_fails_does_not_hold_up_the_others(turns, qtbot):
    seen = []

    def fail():
        raise ValueError("no such layer")

    with qtbot.captureExceptions() as raised, qtbot.waitSignal(turns.ended):
        turns.add("first", fail)
        turns.add("second", lambda: seen.append("second"))
    assert seen == ["second"]
    assert [str(error) for _, error, _ in raised] == ["no such layer"]


def test_step_that_adds_another_goes_on(turns, qtbot):
    seen = []
    with qtbot.waitSignal(turns.ended):
        turns.add("first", lambda: turns.add("second", lambda: seen.append("second")))
    assert seen == ["second"]


def test_steps_that_a_step_adds_come_next(turns, qtbot):
    seen = []
    with qtbot.waitSignal(turns.ended):
        turns.add("first", lambda: [turns.add(name, lambda name=name: seen.append(name)) for name in ("a", "b")])
        turns.add("second", lambda: seen.append("second"))
    assert seen == ["a", "b", "second"]


def test_steps_wait_for_those_of_other_turns(turns, qtbot):
    seen, others = [], turns.before()
    with qtbot.waitSignal(turns.ended):
        turns.add("own", lambda: seen.append("own"))
        for number in range(3):
            others.add(str(number), lambda number=number: seen.append(number))
    assert seen == [0, 1, 2, "own"]
    others.add("other", lambda: seen.append("other"))
    turns.add("own", lambda: seen.append("last"))
    assert turns.seconds_at_rest == others.seconds_at_rest == 0
    turns.finish()
    assert seen[4:] == ["other", "last"]
    assert not turns.waiting
    assert not others.waiting
    assert 0 < turns.seconds_at_rest < 5
