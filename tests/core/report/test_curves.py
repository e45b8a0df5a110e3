import tempfile
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gancore.report.collect import collect
from gancore.report.curves import legend, metric_curves, swatches_of, training_curves
from gancore.utils.files import without_warnings
from helpers.html_pages import problems_of
from helpers.run_folders import evaluation_line, run_folder, training_line

NUMBERS = st.one_of(st.floats(), st.integers(-(10**400), 10**400), st.none())
KEYS = st.sampled_from(
    ["kimg", "epoch", "discriminator_loss", "real_logit_mean", "penalty.r1", "diversity", "fd", "x$_"]
)
NO_SHRINKING = (Phase.explicit, Phase.generate)
LINES = st.lists(st.dictionaries(KEYS, NUMBERS), max_size=12)
PAGE = '<!DOCTYPE html><html lang="en"><head><meta name="viewport"><title>x</title></head><body><main><h1>x</h1>{}'


def run_of(folder, lines, seed=0):
    lines = [{"step": number, **line} for number, line in enumerate(lines)]
    return collect(run_folder(folder, lines, config={"seed": seed}))


@settings(max_examples=8, phases=NO_SHRINKING)  # a plot takes a tenth of a second
@given(LINES)
def test_curves_of_any_log_are_drawn(lines):
    with tempfile.TemporaryDirectory() as folder, without_warnings():
        runs = [run_of(Path(folder) / "a", lines), run_of(Path(folder) / "b", lines[::2], 1)]
        views = [*training_curves(runs[:1]), *metric_curves(runs[:1])]
        views += [*training_curves(runs), *metric_curves(runs)]
    assert all(problems_of(PAGE.format(view.svg) + "</main></body></html>") == [] for view in views)


def test_numbers_that_no_axis_can_show_are_not_finite(tmp_path):
    lines = [
        {"kimg": 1e308 if number == 3 else number, "epoch": 1e-300 * number, "discriminator_loss": 1.0}
        | {"generator_loss": (-1) ** number * 1e308}
        for number in range(9)
    ]
    lines[-1] |= {"kimg": 1e-300, "epoch": 1e99}
    lines.append({"kimg": 1e99})
    run = run_of(tmp_path / "run", lines)
    assert training_curves([run])
    assert run.epoch is None


def test_curves_of_runs_over_seeds_are_one_with_a_band(tmp_path):
    lines = [{"kimg": kimg, "generator_loss": kimg / 7} for kimg in range(20)]
    runs = [run_of(tmp_path / str(seed), lines[: 20 - seed], seed) for seed in range(3)]
    assert [entry.label.partition(":")[0] for entry in legend(runs)] == ["median of 3 seeds"]
    assert swatches_of(runs) == ["c0 d0"] * 3
    (view,) = training_curves(runs)
    assert view.title == "Loss of the generator"
    assert "fill-opacity: 0.18" in view.svg
    assert view.caption.endswith(" ends at 17.0 kimg with the shortest curve.")


def test_curves_over_seeds_leave_out_a_seed_without_values_and_say_so(tmp_path):
    lines = [{"kimg": kimg, "generator_loss": kimg / 7} for kimg in range(20)]
    diverged = [{**line, "generator_loss": None} for line in lines]
    runs = [run_of(tmp_path / str(seed), own, seed) for seed, own in enumerate((lines, lines, diverged, []))]
    (view,) = training_curves(runs)
    names = ", ".join(run.name for run in runs)
    assert view.caption.endswith(f" The median of {names} is of 2 of 4 seeds, since the others have no values.")
    (view,) = training_curves(runs[:2])
    assert "The median" not in view.caption


def test_curves_of_more_runs_than_colors_differ_by_dashes(tmp_path):
    lines = [{"step": kimg, "kimg": kimg, "generator_loss": kimg / 7} for kimg in range(4)]
    runs = [collect(run_folder(tmp_path / f"{n}", lines, {}, {"batch_size": n})) for n in range(1, 8)]
    assert len(set(swatches_of(runs))) == len({entry.swatch for entry in legend(runs)}) == 7
    few, many = (training_curves(chosen)[0].svg.count("stroke-dasharray") for chosen in (runs[:6], runs))
    assert (few, many) == (0, 1)


def test_metric_curves_end_with_a_value_that_only_evaluation_json_has(tmp_path):
    lines = [training_line(100), evaluation_line(100, 9.0), training_line(150)]
    (view,) = metric_curves([collect(run_folder(tmp_path / "both", lines))])
    assert "fd-classifier over thousands of real images; from 9 to 7.1; " in view.svg
    assert ">20<" in view.svg.replace("\u200b", "")  # the axis ends beyond the log, at the kimg of the evaluation
    (view,) = metric_curves([collect(run_folder(tmp_path / "alone", lines[::2]))])
    assert "from 7.1 to 7.1" in view.svg
