"""The history of a training in its model file."""

from __future__ import annotations

import itertools

import pytest

from napari_direct_denoiser.training.provenance import History, Record


def record(step: int) -> Record:
    return Record(
        step=step,
        seconds=float(step),
        neg_elbo=1.0,
        direct_loss=1.0,
        validation_neg_elbo=None,
        validation_direct_loss=None,
    )


@pytest.mark.parametrize("count", [1, 3, 10, 11, 19, 20, 1000, 12345])
def test_a_history_of_any_length_is_short_even_and_ends_with_the_newest(count: int) -> None:
    history = History(most=10)
    longest = 0
    for step in range(1, count + 1):
        history.add(record(step))
        longest = max(longest, len(history.records))
        assert history.records[-1].step == step
    assert longest <= 10
    steps = [each.step for each in history.records]
    assert steps == sorted(set(steps))
    gaps = {later - earlier for earlier, later in itertools.pairwise(steps[:-1])}
    assert len(gaps) <= 1  # but for the newest, evenly spread


def test_a_continued_history_begins_with_what_there_was() -> None:
    before = tuple(record(step) for step in range(1, 6))
    history = History(before)
    history.add(record(6))
    assert history.records == (*before, record(6))


def test_records_of_version_0_1_are_read() -> None:
    old = {
        "step": 1,
        "seconds": 2.0,
        "elbo": 3.0,
        "direct_loss": 4.0,
        "validation_elbo": 5.0,
        "validation_direct_loss": None,
    }
    found = Record.model_validate(old)
    assert (found.neg_elbo, found.validation_neg_elbo) == (3.0, 5.0)


def test_records_of_a_file_without_estimated_gains_are_read_and_new_ones_are_kept() -> None:
    old = {name: value for name, value in record(1).model_dump().items() if not name.startswith("estimated")}
    assert Record.model_validate(old).estimated_gain_db is None
    new = {**old, "estimated_gain_db": 1.9, "estimated_gain_error_db": 0.1, "estimated_gain_why": "few patches"}
    found = Record.model_validate_json(Record.model_validate(new).model_dump_json())
    assert (found.estimated_gain_db, found.estimated_gain_error_db) == (1.9, 0.1)
    assert found.estimated_gain_why == "few patches"
