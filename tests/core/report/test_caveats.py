import pytest

from gancore.report.caveats import are_comparable, caveats
from gancore.report.collect import collect
from helpers.run_folders import evaluation_line, run_folder, score, training_line


@pytest.fixture
def rows_of(tmp_path):
    def rows(*folders):
        return [collect(run_folder(tmp_path / f"run{number}", **each)) for number, each in enumerate(folders)]

    return rows


def test_caveats_of_runs_that_were_measured_alike_are_empty(rows_of):
    rows = rows_of({}, {"config": {"seed": 1}}, {"evaluation": {"fd-classifier": score(3.0, real=0.1, seed=1)}})
    assert caveats(rows, ["a", "b", "c"]) == []
    assert are_comparable("fd-classifier", rows)


@pytest.mark.parametrize(
    ("other", "note"),
    [
        (
            {"evaluation": {"fd-classifier": score(3.0, generated=800)}},
            "fd-classifier was measured with other numbers of images: "
            "500 generated, 1,000 reference in a; 800 generated, 1,000 reference in b",
        ),
        (
            {"evaluation": {"fd-classifier": score(3.0, reference="kmnist")}},
            "fd-classifier was measured against other references: "
            "mnist test abababababab in a; kmnist test abababababab in b",
        ),
        (
            {"evaluation": {"fd-classifier": score(3.0) | {"extractor": {"name": "classifier", "sha256": "dead"}}}},
            "fd-classifier was measured with other extractors: classifier c0ffee in a; classifier dead in b",
        ),
        (
            {"evaluation": {"fd-classifier": score(3.0) | {"settings": {"name": "fd", "k": 2}}}},
            "fd-classifier was measured with other settings: name fd in a; name fd, k 2 in b",
        ),
    ],
)
def test_caveats_name_each_way_in_which_a_metric_was_measured_differently(rows_of, other, note):
    rows = rows_of({}, other)
    assert caveats(rows, ["a", "b"]) == [note]
    assert not are_comparable("fd-classifier", rows)


def test_caveats_ignore_which_images_a_seed_has_chosen_from_a_large_reference(rows_of):
    one, other = ({"fd-classifier": score(3.0, digest=digest, used=50_000)} for digest in ("ab", "cd"))
    assert caveats(rows_of({"evaluation": one}, {"evaluation": other}), ["a", "b"]) == []


def test_caveats_name_other_data_other_versions_and_missing_evaluations(rows_of):
    rows = rows_of(
        {"torch": "2.12", "data": {"dataset": "mnist", "items": 60000, "shape": [1, 28, 28]}},
        {"torch": "2.11", "lines": [training_line(100)], "evaluation": {}},
        {"torch": "2.12", "lines": [training_line(100)], "config": {"metrics": {}}},
    )
    assert caveats(rows, ["a", "b", "c"]) == [
        "b has not been evaluated yet",
        "no metric was measured during training in c",
        "other data: 60,000 items of 1x28x28 from mnist in a; 1,797 items of 1x8x8 from ring in b, c",
        "other versions of torch: 2.12 in a, c; 2.11 in b",
    ]


def test_caveats_list_at_most_four_runs(rows_of):
    rows = rows_of(*[{"torch": "2.12"}] * 6, {"torch": "2.11"})
    assert caveats(rows, list("abcdefg")) == ["other versions of torch: 2.12 in a, b, c, d and 2 more; 2.11 in g"]


def test_caveats_compare_only_runs_that_have_the_metric(rows_of):
    rows = rows_of(
        {}, {"lines": [training_line(9), evaluation_line(9, 1.0, "modes")], "evaluation": {"modes": score(1.0)}}
    )
    assert are_comparable("modes", rows)
    assert are_comparable("fd-classifier", rows)
