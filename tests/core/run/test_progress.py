"""Lines about the progress of a run where no bar can be drawn."""

import pytest
import torch

from gancore.evaluation.evaluator import Evaluation
from gancore.run.progress import ProgressDisplay
from gancore.run.recorder import Record
from gancore.training.loop import Step

ZERO = torch.zeros(())


def record(step, seconds, done, metrics=None):
    return Record(Step(step, step / 10, 64 * step, seconds, done, ZERO, ZERO, ZERO, ZERO, {}), metrics)


@pytest.mark.parametrize("begun", [0.0, 1000.0])
def test_time_left_is_shown_once_after_the_first_seconds(begun):
    lines = []
    display = ProgressDisplay(lines.append)
    with display.training(10.0):
        for step in range(1, 20):
            display.show(record(step, begun + 2 * step, 0.25))
    (line,) = lines
    assert line.startswith("step 4 ")
    assert line.endswith("left")


def test_note_of_an_evaluation_is_shown_once_and_is_no_warning():
    lines = []
    display = ProgressDisplay(lines.append)
    for step in (1, 2):
        display.show(Record(record(step, 1.0, 0.1).step, evaluation=Evaluation((), notes=("few images",))))
    assert [line for line in lines if "few" in line] == ["note: few images"]


def test_time_left_needs_no_line_of_its_own_after_a_line_of_the_log():
    lines = []
    display = ProgressDisplay(lines.append)
    numbers = {"images_per_second": 1.0, "discriminator_loss": 1.0, "generator_loss": 1.0}
    with display.training(10.0):
        display.show(record(1, 1.0, 0.1, numbers))
        display.show(record(2, 30.0, 0.2))
    assert len(lines) == 1
    assert "1 img/s" in lines[0]


def test_plain_lines_are_at_least_five_seconds_apart_except_for_the_last():
    lines = []
    display = ProgressDisplay(lines.append)
    numbers = {"images_per_second": 1.0, "discriminator_loss": 1.0, "generator_loss": 1.0}
    with display.training(10.0):
        for step in range(1, 22):
            display.show(record(step, 0.5 * step, step / 21, numbers))
    assert [line.split()[1] for line in lines] == ["1", "11", "21"]
