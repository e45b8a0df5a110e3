from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gancore.config.duration import Duration

SIZES = st.integers(1, 100_000)
NOTHING = {"step": 0, "images_seen": 0, "seconds": 0.0}


def at(duration, dataset_size, **so_far):
    return duration.done(**NOTHING | so_far, dataset_size=dataset_size)


@given(st.integers(1, 10**6), st.sampled_from(["epochs", "steps", "kimg", "minutes"]))
def test_duration_parses_whole_numbers(amount, unit):
    assert Duration.parse(f"{amount} {unit}") == Duration(amount, unit)


@pytest.mark.parametrize(
    ("text", "amount"), [("0.5 epochs", 0.5), ("2.25 kimg", 2.25), ("1.0 minutes", 1), ("007 steps", 7)]
)
def test_duration_parses_fractions(text, amount):
    assert Duration.parse(text).amount == amount


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "50",
            "epochs",
            "50epochs",
            "50  epochs",
            " 50 epochs",
            "50 epochs\n",
            "5 epochs and more",
            "5 steps|kimg",
        ),
        *("5 eons", "5 Epochs", "-1 epochs", "+1 epochs", ".5 epochs", "5. epochs", "nan epochs"),
        *("0 steps", "0.0 epochs", f"{'9' * 400} epochs"),
    ],
)
def test_duration_rejects_other_text(text):
    with pytest.raises(ValueError, match="must be a positive number and one of epochs, steps, kimg, minutes"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["1e3 steps", "2.5E-1 epochs", "1e+3 kimg"])
def test_duration_has_no_exponent(text):
    with pytest.raises(ValueError, match="positive number, without an exponent, and one of epochs"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["1.5 steps", "1.0 steps"])
def test_duration_in_steps_is_whole(text):
    with pytest.raises(ValueError, match="steps must be a whole number, like '1000 steps'"):
        Duration.parse(text)


@given(st.text(max_size=20))
def test_duration_parser_survives_any_text(text):
    with suppress(ValueError):
        assert Duration.parse(text).amount > 0


@given(st.integers(1, 10_000), SIZES)
def test_duration_is_done_exactly_at_its_total(amount, size):
    for unit, key, total in [
        ("epochs", "images_seen", amount * size),
        ("steps", "step", amount),
        ("kimg", "images_seen", amount * 1000),
        ("minutes", "seconds", amount * 60),
    ]:
        duration = Duration.parse(f"{amount} {unit}")
        assert at(duration, size, **{key: total}) == 1
        assert at(duration, size, **{key: total - 1}) < 1
        assert at(duration, size) == 0


@given(st.integers(1, 10**6), SIZES)
def test_duration_in_decimals_is_done_on_the_exact_image(images, size):
    assert at(Duration.parse(f"{images / 1000:.3f} kimg"), size, images_seen=images) == 1
    assert at(Duration.parse(f"{images / 1000:.3f} epochs"), 1000, images_seen=images) == 1


@given(
    st.builds(Duration, st.floats(0.01, 1e6), st.sampled_from(["epochs", "steps", "kimg", "minutes"])),
    SIZES,
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0, 1e9)), min_size=2),
)
def test_duration_done_never_decreases(duration, size, moments):
    steps, images, seconds = (sorted(numbers) for numbers in zip(*moments, strict=True))
    shares = [
        duration.done(step=step, images_seen=seen, seconds=time, dataset_size=size)
        for step, seen, time in zip(steps, images, seconds, strict=True)
    ]
    assert all(before <= after for before, after in pairwise(shares))


@pytest.mark.parametrize(
    ("unit", "key"), [("epochs", "images_seen"), ("steps", "step"), ("kimg", "images_seen"), ("minutes", "seconds")]
)
def test_duration_counts_only_its_unit(unit, key):
    others = {"step": 10**6, "images_seen": 10**9, "seconds": 1e9} | {key: 0}
    assert at(Duration(5, unit), 10, **others) == 0


@given(st.integers(1, 1000), SIZES, st.integers(1, 1000))
def test_duration_total_epochs_agrees_with_done(amount, size, batch):
    assert Duration(amount, "epochs").total_epochs(size, batch) == amount
    steps, kimg = Duration(amount, "steps"), Duration(amount, "kimg")
    assert steps.total_epochs(size, batch) == pytest.approx(amount * batch / size)
    images = kimg.total_epochs(size, batch) * size
    assume(images == round(images))
    assert at(kimg, size, images_seen=round(images)) == 1


def test_duration_in_minutes_has_no_total_epochs():
    assert Duration(1, "minutes").total_epochs(10, 1) is None
