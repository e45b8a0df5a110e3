import json
import math
from itertools import pairwise
from typing import Annotated

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from gancore.settings import START, PiecewiseSchedule, Schedulable, Schedule, Settings, TrainingTime, plain, value_at
from helpers.strategies import components

NUMBERS = st.floats(-1e6, 1e6)
SHAPES = st.sampled_from(["linear", "cosine"])
ENDS = st.integers(-2, 2) | NUMBERS
SCHEDULES = st.builds(Schedule, start=ENDS, to=ENDS, kimg=st.floats(0.001, 1e4), shape=SHAPES)
PIECES = st.lists(SCHEDULES, min_size=1, max_size=4).map(lambda pieces: PiecewiseSchedule(pieces=pieces))
IMAGES = st.integers(0, 10**8)
FALL = Schedule(start=1, to=0, kimg=2)


class Table(Settings):
    width: int = Field(default=1, ge=1)
    ratio: float = 0.5
    on: bool = False
    word: str = "x"
    pair: tuple[int, Annotated[float, Field(lt=9)]] = (1, 2.0)
    many: tuple[tuple[int, ...], ...] = ()
    slope: Schedulable = 1.0


class Outer(Settings):
    inner: Table = Table()
    labels: dict[str, Table] = Field(default={})


def after(images):
    return TrainingTime(images, 0.0)


def errors_of(error):
    return {".".join(map(str, line["loc"])): line["msg"] for line in error.value.errors()}


@given(SCHEDULES)
def test_schedule_starts_and_ends_exactly_and_then_stays(schedule):
    assert schedule.at(START) == schedule.start
    last = math.ceil(1000 * schedule.kimg)
    assert {schedule.at(after(images)) for images in (last, last + 1, 10**15)} == {schedule.to}


@given(SCHEDULES, IMAGES, st.floats(0, 1))
def test_schedule_without_kimg_lasts_for_the_whole_run(schedule, images, done):
    full_run = schedule.model_copy(update={"kimg": None})
    assert full_run.at(TrainingTime(images, done)) == pytest.approx(
        schedule.at(after(1000 * schedule.kimg * done)), abs=1e-6
    )
    assert (full_run.at(START), full_run.at(TrainingTime(images, 1.0))) == (schedule.start, schedule.to)


@given(SCHEDULES, st.lists(IMAGES, min_size=2))
def test_schedule_is_monotonic(schedule, moments):
    direction = math.copysign(1, schedule.to - schedule.start)
    slack = 1e-9 * (1 + abs(schedule.start) + abs(schedule.to))
    values = [schedule.at(after(images)) for images in sorted(moments)]
    assert all(direction * (after - before) >= -slack for before, after in pairwise(values))


@given(SCHEDULES, IMAGES, st.floats(0, 1))
def test_schedule_with_kimg_ignores_the_fraction_of_the_run(schedule, images, done):
    assert schedule.at(TrainingTime(images, done)) == schedule.at(after(images))


@given(SCHEDULES, IMAGES)
def test_schedule_of_a_resumed_run_has_the_same_value(schedule, images):
    resumed = Schedule.model_validate(json.loads(json.dumps(plain(schedule, str))))
    assert value_at(resumed, after(images)) == value_at(schedule, after(images))


@pytest.mark.parametrize(
    ("shape", "quarter", "half"), [("linear", 3.0, 4.0), ("cosine", 2 + 4 * (1 - math.sqrt(0.5)) / 2, 4.0)]
)
def test_schedule_shapes_are_a_line_and_half_a_cosine(shape, quarter, half):
    schedule = Schedule(start=2, to=6, kimg=4, shape=shape)
    assert schedule.at(after(1000)) == pytest.approx(quarter)
    assert schedule.at(after(2000)) == pytest.approx(half)


@given(SCHEDULES, IMAGES, st.floats(0, 1), st.booleans())
def test_schedule_of_one_piece_is_that_piece(piece, images, done, lasts_for_the_run):
    piece = piece.model_copy(update={"kimg": None}) if lasts_for_the_run else piece
    time = TrainingTime(images, done)
    assert PiecewiseSchedule(pieces=[piece]).at(time) == piece.at(time)


def lengths_in_images(pieces):
    """Give each piece a whole number of images, so that boundaries are exact."""
    return PiecewiseSchedule(
        pieces=[piece.model_copy(update={"kimg": math.ceil(piece.kimg)}) for piece in pieces.pieces]
    )


@given(PIECES.map(lengths_in_images))
def test_schedule_pieces_begin_with_from_and_the_last_value_stays(schedule):
    boundary = 0
    for piece in schedule.pieces:
        assert schedule.at(after(boundary)) == piece.start
        boundary += 1000 * piece.kimg
        if piece.shape == "linear":
            middle = schedule.at(after(boundary - 500 * piece.kimg))
            assert middle == pytest.approx((piece.start + piece.to) / 2, abs=1e-6)
    assert schedule.at(after(boundary)) == schedule.at(after(10**15)) == schedule.ends[-1]


def without_starts(pieces):
    first, *others = (plain(piece, str) for piece in pieces.pieces)
    return PiecewiseSchedule.model_validate(
        [first, *({k: v for k, v in piece.items() if k != "from"} for piece in others)]
    )


@given(PIECES.map(lengths_in_images).map(without_starts))
def test_schedule_pieces_without_from_are_continuous(schedule):
    boundary = 0
    for piece, following in pairwise(schedule.pieces):
        assert following.start == piece.to
        boundary += 1000 * piece.kimg
        # An image moves the value by at most pi / 2 times the mean slope.
        step = 1.6 * abs(piece.to - piece.start) / (1000 * piece.kimg) + 1e-6
        assert schedule.at(after(boundary - 1)) == pytest.approx(schedule.at(after(boundary)), abs=step)


@given(PIECES, st.lists(IMAGES, min_size=2))
def test_schedule_pieces_are_monotonic_each(schedule, moments):
    boundary = 0
    for piece in schedule.pieces:
        inside = [images for images in sorted(moments) if boundary <= images < boundary + 1000 * piece.kimg]
        boundary += 1000 * piece.kimg
        direction = math.copysign(1, piece.to - piece.start)
        values = [direction * schedule.at(after(images)) for images in inside]
        slack = 1e-9 * (1 + abs(piece.start) + abs(piece.to))
        assert all(later >= earlier - slack for earlier, later in pairwise(values))


def warmed_up(kimg, to=1.0):
    return Schedule(start=0.0, to=to, kimg=kimg).then(0.0)


@given(st.integers(1, 1000), st.integers(1, 10**6), st.floats(0, 1))
def test_schedule_last_piece_without_kimg_lasts_until_the_end_of_the_run(kimg, more, share):
    schedule, total = warmed_up(kimg), 1000 * kimg + more
    images = 1000 * kimg + round(share * more)
    expected = 1 - (images - 1000 * kimg) / more
    assert schedule.at(TrainingTime(images, images / total)) == pytest.approx(expected, abs=1e-6)
    assert schedule.at(TrainingTime(total, 1.0)) == 0.0


@given(st.integers(1, 1000), st.lists(st.tuples(IMAGES, st.floats(0, 1)), min_size=2))
def test_schedule_last_piece_never_moves_back_whatever_the_pace_of_the_run(kimg, moments):
    # A run in minutes sees images at a varying pace.
    images, shares = (sorted(numbers) for numbers in zip(*moments, strict=True))
    times = [TrainingTime(seen, done) for seen, done in zip(images, shares, strict=True) if seen >= 1000 * kimg]
    values = [warmed_up(kimg).at(time) for time in times]
    assert all(0 <= later <= earlier + 1e-9 <= 1 + 1e-9 for earlier, later in pairwise(values))


def test_schedule_last_piece_of_an_extended_run_continues_from_its_share_of_the_new_total():
    schedule = warmed_up(1)
    at_end, extended = schedule.at(TrainingTime(3000, 1.0)), schedule.at(TrainingTime(3000, 0.6))
    assert (at_end, extended) == (0.0, pytest.approx(0.5))
    assert schedule.at(TrainingTime(500, 0.1)) == schedule.at(TrainingTime(500, 0.9)) == 0.5


def test_schedule_piece_that_the_run_does_not_reach_has_no_effect():
    assert warmed_up(4).at(TrainingTime(2000, 1.0)) == 0.5


def test_schedule_then_adds_a_piece_that_starts_where_the_last_one_ends():
    schedule = Schedule(start=0.0, to=2.0, kimg=1).then(3.0, kimg=2).then(0.0, start=4.0, shape="cosine")
    data = [{"from": 0, "to": 2, "kimg": 1}, {"to": 3, "kimg": 2}, {"from": 4, "to": 0, "shape": "cosine"}]
    assert Table(slope=data).slope == schedule
    assert schedule.ends == (0.0, 2.0, 2.0, 3.0, 4.0, 0.0)
    assert Table(slope=[FALL, {"to": 3}]).slope == FALL.then(3)


@given(NUMBERS, IMAGES)
def test_value_at_returns_a_number_unchanged(number, images):
    assert value_at(number, after(images)) == number


@given(components(Table))
def test_settings_survive_plain_data_with_equal_hash(table):
    again = Table.model_validate(plain(table, str))
    assert again == table
    assert hash(again) == hash(table)


OTHER = {"width": 2, "ratio": 0.25, "on": True, "word": "y", "pair": (1, 3.0), "many": ((1,),), "slope": FALL}


@pytest.mark.parametrize("key", Table.model_fields)
def test_settings_differ_if_one_value_differs(key):
    table, changed = Table(), Table(**{key: OTHER[key]})
    assert changed != table
    assert hash(changed) != hash(table)
    assert plain(changed, str) == plain(table, str) | {key: plain(changed, str)[key]} != plain(table, str)


def test_settings_of_two_classes_differ_despite_equal_values():
    class Twin(Table):
        pass

    assert Twin() != Table()
    assert len({Twin(), Table()}) == 2


def test_settings_hash_ignores_the_order_of_labels():
    one = Outer(labels={"a": Table(), "b": Table(width=2)})
    other = Outer(labels={"b": Table(width=2), "a": Table()})
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other, Outer(labels={"a": Table()}), Outer()}) == 3


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Table().width = 3


@given(st.lists(st.lists(st.integers(), max_size=3), max_size=3))
def test_settings_convert_lists_to_tuples_at_every_depth(many):
    table = Table(many=many, pair=[1, 2])
    assert table.many == tuple(map(tuple, many))
    assert table.pair == (1, 2.0)


WRONG = {
    "width": [True, 4.0, 4.7, "4", None, 0, math.nan],
    "ratio": [True, "0.5", math.nan, math.inf, None],
    "on": [1, 0.0, "true"],
    "word": [1, b"x", ["x"]],
    "pair": [[1], [1, 2, 3], "12", {1, 2}, [1.5, 2], [1, 9], [1, math.inf]],
    "many": [[[True]], ["1"], [1]],
    "slope": [True, "1", [1], math.inf, None],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_settings_reject_values_of_another_type(key, value):
    with pytest.raises(ValidationError) as error:
        Table.model_validate({key: value})
    assert {path.split(".")[0] for path in errors_of(error)} == {key}


def test_settings_validate_defaults():
    class Careless(Settings):
        sizes: tuple[int, ...] = [1, 2]
        ratio: float = 1
        width: int = Field(default=0, ge=1)

    with pytest.raises(ValidationError) as error:
        Careless()
    assert list(errors_of(error)) == ["sizes", "width"]
    assert type(Careless(sizes=[1], width=1).ratio) is float


@pytest.mark.parametrize("key", ["ratio", "slope"])
def test_settings_convert_int_to_float(key):
    value = getattr(Table.model_validate({key: 4}), key)
    assert (value, type(value)) == (4, float)


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ({"from": 1, "kimg": 2}, "slope.schedule.to"),
        ({"from": 1, "to": 2, "kimg": 0}, "slope.schedule.kimg"),
        ({"from": 1, "to": 2, "kimg": -1}, "slope.schedule.kimg"),
        ({"from": 1, "to": math.inf, "kimg": 1}, "slope.schedule.to"),
        ({"from": 1, "to": math.nan, "kimg": 1}, "slope.schedule.to"),
        ({"from": 1, "to": 2, "kimg": 1, "shape": "step"}, "slope.schedule.shape"),
    ],
)
def test_schedule_with_invalid_fields_is_rejected(schedule, problem):
    with pytest.raises(ValidationError) as error:
        Table.model_validate({"slope": schedule})
    assert list(errors_of(error)) == [problem]


PIECE = {"from": 1, "to": 2, "kimg": 1}


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ([], {"": "must have at least 1 item"}),
        ([1], {".pieces.0": "valid dictionary"}),
        ([{"to": 1, "kimg": 1}, {"to": 0}], {".pieces.0.from": "required"}),
        ([{"from": 1, "to": 2}, {"to": 3}, {"to": 4}], {".pieces.0": "needs kimg", ".pieces.1": "needs kimg"}),
        ([PIECE, {"to": "x", "kimg": 1}, {"to": 3}], {".pieces.1.to": "valid number"}),
        ([PIECE, {"kimg": 1}, {"to": 3}], {".pieces.1.to": "required"}),
        ([PIECE, {"to": 3, "kimgs": 1}], {".pieces.1.kimgs": "did you mean 'kimg'?"}),
        ([PIECE, {"to": 3, "kimg": 0}], {".pieces.1.kimg": "greater than 0"}),
    ],
)
def test_schedule_mistakes_name_the_piece(pieces, found):
    with pytest.raises(ValidationError) as error:
        Table(slope=pieces)
    messages = errors_of(error)
    assert list(messages) == [f"slope.pieces{place}" for place in found]
    assert all(part in message for part, message in zip(found.values(), messages.values(), strict=True))


@given(st.text("abcdefghijklmnopqrstuvwxyz_{}", min_size=1))
def test_settings_report_an_unknown_key_with_the_known_ones(key):
    assume(key not in Table.model_fields)
    with pytest.raises(ValidationError) as error:
        Table.model_validate({key: 1})
    message = errors_of(error)[key]
    assert message.startswith(f"unknown key {key!r}")
    assert message.endswith("Known: many, on, pair, ratio, slope, width, word")


BOUNDS = {"gt": float.__gt__, "ge": float.__ge__, "lt": float.__lt__, "le": float.__le__}


@given(st.sampled_from(sorted(BOUNDS)), st.integers(-2, 2), st.floats(-3, 3) | SCHEDULES | PIECES)
def test_schedulable_bounds_hold_for_numbers_and_all_ends_of_schedules(kind, bound, value):
    class Bounded(Settings):
        key: Schedulable = Field(**{kind: bound})

    pieces = value.pieces if isinstance(value, PiecewiseSchedule) else (value,)
    ends = [end for piece in pieces for end in ((piece.start, piece.to) if isinstance(piece, Schedule) else (piece,))]
    if all(BOUNDS[kind](end, float(bound)) for end in ends):
        assert Bounded(key=value).key == value
    else:
        with pytest.raises(ValidationError) as error:
            Bounded(key=value)
        wrong = [all(BOUNDS[kind](end, float(bound)) for end in ends[at : at + 2]) for at in range(0, len(ends), 2)]
        piece = f".{wrong.index(False)}" if isinstance(value, PiecewiseSchedule) else ""
        assert list(errors_of(error)) == [f"key{piece}"]


def test_settings_keys_and_plain_data_use_aliases():
    assert Schedule.keys() == ["from", "to", "kimg", "shape"]
    schedule = Schedule(start=1, to=2, kimg=3)
    assert plain(schedule, str) == {"from": 1.0, "to": 2.0, "kimg": 3.0, "shape": "linear"}
    assert Schedule.model_validate(plain(schedule, str)) == schedule


def test_settings_report_mistakes_of_nested_tables_together():
    with pytest.raises(ValidationError) as error:
        Outer.model_validate({"inner": {"width": 0, "widht": 1}, "labels": {"a": {"on": 1}, "b": 3}, "more": 1})
    messages = errors_of(error)
    assert set(messages) == {"inner.width", "inner.widht", "labels.a.on", "labels.b", "more"}
    assert "did you mean 'width'?" in messages["inner.widht"]
    assert messages["more"] == "unknown key 'more'. Known: inner, labels"
