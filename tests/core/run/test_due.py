from types import SimpleNamespace

import pytest

from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.run.recorder import due_after
from helpers.tiny_components import PARTS, catalog

CHANGES = {
    "log": {"every_steps": 3},
    "checkpoint": {"every_steps": 4},
    "sample": {"every_kimg": 0.02},
    "evaluate": {"every_kimg": 0.03},
}


def due(step, *, done=0.5, before=0.5, **changes):
    """What is due after a step of 10 images."""
    config = resolve([ConfigLayer("test", layer) for layer in (PARTS, CHANGES, changes)], catalog())
    return due_after(SimpleNamespace(step=step, images_seen=10 * step, done=done), 10 * step - 10, before, config)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (1, []),
        (2, ["samples"]),
        (3, ["log", "guarded evaluation"]),
        (4, ["samples", "checkpoint"]),
        (6, ["log", "samples", "guarded evaluation"]),
        (12, ["log", "samples", "checkpoint", "guarded evaluation"]),
    ],
)
def test_due_after_a_step_is_what_the_intervals_say(step, expected):
    assert due(step) == expected


def test_due_after_the_last_step_is_everything():
    measured = {"metrics": {"kid-random": {}}}
    assert due(1, done=1.0) == ["log", "samples", "checkpoint"]
    assert due(1, done=1.0, **measured) == ["log", "samples", "checkpoint", "evaluation"]
    assert due(3, done=1.0, **measured) == ["log", "samples", "checkpoint", "guarded evaluation"]


def test_due_report_is_written_in_its_interval_and_at_the_end_if_it_is_asked_for():
    asked = {"report": {"every_kimg": 0.02}}
    assert due(2, **asked) == ["samples", "report"]
    assert due(5, **asked) == []
    assert due(1, done=1.0, **asked) == ["log", "samples", "checkpoint", "report"]


def test_due_evaluations_are_not_guarded_where_collapse_is_ignored():
    blind = {"evaluate": {"on_collapse": "ignore"}}
    assert due(3, **blind) == ["log"]
    assert due(3, **blind, metrics={"kid-random": {}}) == ["log", "evaluation"]


def test_due_samples_are_twenty_in_a_run_in_minutes_unless_an_interval_is_set():
    timed = {"duration": "10 minutes", "log": {"every_steps": 1000}, "checkpoint": {"every_steps": 1000}}
    without = timed | {"sample": {"every_kimg": None}, "evaluate": {"every_kimg": 1000.0}}
    drawn = [number for number in range(1, 61) if due(1, done=number / 60, before=(number - 1) / 60, **without)]
    assert drawn == [3 * part for part in range(1, 21)]
    assert due(1, done=0.06, before=0.04, **timed) == []
    assert due(2, done=0.06, before=0.05, **timed) == ["samples"]
    counted = without | {"duration": "1 kimg"}
    assert due(1, done=0.06, before=0.04, **counted) == []
