import json

import pytest

from helpers.run_folders import evaluation_line, run_folder, score, training_line

FORKED = True


@pytest.fixture
def runs(gancore):
    """Three runs over seeds, and one with another loss."""
    folder = gancore.folder / "runs"
    for seed, value in enumerate((7.0, 6.0, 9.0)):
        lines = [training_line(200), evaluation_line(200, value)]
        run_folder(folder / f"000{seed + 1}", lines, {"fd-classifier": score(value, real=0.09)}, {"seed": seed})
    lines = [training_line(100), evaluation_line(100, 3.0)]
    run_folder(
        folder / "0004", lines, {"fd-classifier": score(3.0, real=0.1)}, {"loss": {"name": "hinge", "margin": 1.0}}
    )
    return folder


def test_compare_prints_rows_medians_over_seeds_and_differences(gancore, runs):
    done = gancore.works("compare", "runs")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "run        steps  kimg  time  img/s  fd-classifier ↓",
        "runs/0001  200    20.0  0:04  5,000  7",
        "runs/0002  200    20.0  0:04  5,000  6",
        "runs/0003  200    20.0  0:04  5,000  9",
        "runs/0004  100    10.0  0:02  5,000  3",
        "real data                            0.09 to 0.1",
        "",
        "median over seeds                kimg  time  fd-classifier ↓",
        "runs/0001 to runs/0003 (3 runs)  20.0  0:04  7 [6, 9]",
        "",
        "config     value    runs",
        "seed       0        runs/0001, runs/0004",
        "           1        runs/0002",
        "           2        runs/0003",
        'loss.name  "bce"    runs/0001, runs/0002, runs/0003',
        '           "hinge"  runs/0004',
        "and 1 field of components that the others lack: --json",
    ]


def test_compare_says_how_many_seeds_have_a_value_where_not_all_do(gancore, runs):
    for path in ("metrics.jsonl", "evaluation.json"):
        (runs / "0003" / path).unlink()
    done = gancore.works("compare", "runs")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("runs/0001 to runs/0003")]
    assert line.endswith("6.5 [6, 7], 2 of 3")


def test_compare_of_two_runs_has_a_column_for_each(gancore, runs):
    done = gancore.works("compare", "runs/0004", "runs/0002")
    assert done.stdout.splitlines()[4:] == [
        "",
        "config     runs/0004  runs/0002",
        "seed       0          1",
        'loss.name  "hinge"    "bce"',
        "and 1 field of components that the others lack: --json",
    ]


def test_compare_sorts_by_a_metric_and_keeps_runs_without_it_last(gancore, runs):
    run_folder(runs / "0000", [training_line(100)], {})
    done = gancore.works("compare", "runs", "--sort", "fd-classifier")
    names = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("runs/0")]
    assert names[:5] == ["runs/0004", "runs/0002", "runs/0001", "runs/0003", "runs/0000"]
    assert "note: runs/0000 has not been evaluated yet" in done.stderr
    assert "unknown metric of the runs 'fd'" in gancore.fails(2, "compare", "runs", "--sort", "fd")
    assert "no run has been evaluated" in gancore.fails(2, "compare", "runs/0000", "--sort", "fd")


def test_compare_does_not_sort_by_a_metric_of_which_it_is_not_known_what_is_better(gancore, runs):
    for path in runs.glob("*/evaluation.json"):
        path.unlink()
    done = gancore("compare", "runs", "--sort", "fd-classifier")
    assert done.returncode == 2
    first, *_, last = done.stderr.splitlines()
    assert first == "error: it is not known whether lower or higher values of fd-classifier are better"
    assert last == "next: gancore evaluate runs/0001 --metric fd-classifier --save"


def test_compare_prints_real_data_with_each_run_if_it_was_measured_differently(gancore, runs):
    lines = [training_line(9), evaluation_line(9, 2.0)]
    run_folder(runs / "0005", lines, {"fd-classifier": score(2.0, real=0.01, reference="kmnist")})
    done = gancore.works("compare", "runs/0001", "runs/0005")
    assert [line.split(maxsplit=5)[5] for line in done.stdout.splitlines()[1:3]] == ["7 (real 0.09)", "2 (real 0.01)"]
    assert "real data" not in done.stdout
    assert "note: fd-classifier was measured against other references: " in done.stderr


def test_compare_as_json_is_one_document_with_all_differences(gancore, runs):
    document = json.loads(gancore.works("compare", "runs", "--json").stdout)
    assert list(document) == ["runs", "differences", "seeds", "notes"]
    first = document["runs"][0]
    assert (first["run"], first["step"], first["done"], first["problems"]) == ("runs/0001", 200, 1.0, [])
    assert first["metrics"]["fd-classifier"] == {
        "value": 7.0,
        "step": 200,
        "better": "lower",
        "real_data": 0.09,
        "best": {"step": 200, "value": 7.0},
    }
    assert {row["key"]: row["values"] for row in document["differences"]}["loss.margin"] == [None, None, None, 1.0]
    assert document["seeds"] == [
        {
            "runs": ["runs/0001", "runs/0002", "runs/0003"],
            "seeds": [0, 1, 2],
            "kimg": {"median": 20.0, "low": 20.0, "high": 20.0, "count": 3},
            "seconds": {"median": 4.0, "low": 4.0, "high": 4.0, "count": 3},
            "metrics": {"fd-classifier": {"median": 7.0, "low": 6.0, "high": 9.0, "count": 3}},
        }
    ]


def test_compare_reads_runs_with_damage_and_says_so(gancore, runs):
    (runs / "0001" / "evaluation.json").write_text("{")
    (runs / "0002" / "metrics.jsonl").unlink()
    done = gancore.works("compare", "runs")
    assert "note: runs/0001/evaluation.json is damaged" in done.stderr
    assert ["runs/0002", "0", "0.0", "0:00", "-", "6"] in [line.split() for line in done.stdout.splitlines()]
    assert "runs/0001  200" in done.stdout


def test_compare_shares_the_folder_of_long_paths_and_names_repeated_seeds(gancore, runs):
    done = gancore.works("compare", runs / "0001", runs / "0002", runs / "0001")
    assert done.stdout.splitlines()[0] == f"runs in {runs}/"
    assert done.stdout.splitlines()[2].startswith("0001 ")
    assert "note: 0001, 0001 have the same config and seed 0" in done.stderr


def test_compare_needs_runs(gancore, runs):
    (gancore.folder / "empty").mkdir()
    assert "there is no run in empty" in gancore.fails(4, "compare", "runs/0001", "empty")
    assert "there is no run in nowhere" in gancore.fails(4, "compare", "nowhere")
    assert "is a file, not the folder of a run" in gancore.fails(4, "compare", "runs/0001/config.toml")


def test_compare_escapes_what_a_terminal_would_interpret(gancore):
    evil = "a\x1b[31m\nb"
    lines = [training_line(9), evaluation_line(9, 2.0, evil)]
    for name, config in (("one", {}), (evil, {evil: 1})):
        run_folder(gancore.folder / name, lines, {evil: score(2.0)}, config)
    done = gancore.works("compare", "one", evil)
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout.count("a\\x1b[31m\\nb") == 4  # the run in two tables, the metric, and the key
    assert "\x1b" not in gancore.works("show", "run", evil).stdout
