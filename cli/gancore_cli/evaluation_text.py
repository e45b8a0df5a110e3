"""Evaluations as the command `evaluate` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gancore_cli.hints import printable
from gancore_cli.options import echo, print_table

if TYPE_CHECKING:
    from gancore.evaluation.evaluator import Evaluation, Evaluator, Result

_LONGEST_NAME = 40
"""Characters of the name of a class in a table."""


def print_evaluation(header: Mapping[str, Any], evaluator: Evaluator, evaluation: Evaluation) -> None:
    """Print a line for each value, with the score of real data, and what it was computed from."""
    _print_origin(header, evaluator)
    rows = [row for result in evaluation.results for row in _rows(result, evaluator.origin.classes)]
    columns = ["metric", "value", "better", "real data", "ideal", "images", "stand-ins", "extractor"]
    if all(row[4] == "-" for row in rows):  # no metric has an ideal value
        columns, rows = [*columns[:4], *columns[5:]], [[*row[:4], *row[5:]] for row in rows]
    print_table(columns, rows)
    if legend := _legend(rows, columns):
        echo(legend)
    for line in dict.fromkeys(_accuracy(result, evaluator) for result in evaluation.results):
        if line:
            echo(line)


def print_averages(
    header: Mapping[str, Any], evaluator: Evaluator, averages: Sequence[tuple[float | None, Evaluation]]
) -> None:
    """Print the evaluations of averages (EMA) by their half-life in kimg, None for a schedule: a column for each."""
    from gancore.utils.text import short_number

    _print_origin(header, evaluator)
    names, classes = [half_life_in_words(half_life) for half_life, _ in averages], evaluator.origin.classes
    rows = []
    for results in zip(*(evaluation.results for _, evaluation in averages), strict=True):
        of_real = results[0].real_data
        values = [short_number(result.measured.value) for result in results]
        rows.append([results[0].name, *values, results[0].better, short_number(of_real.value if of_real else None)])
        for key in results[0].measured.details:
            values = [short_number(result.measured.details.get(key)) for result in results]
            real = short_number(of_real.details.get(key) if of_real else None)
            rows.append([_detail(results[0].name, key, classes), *values, "", real])
    columns = ["metric", *names, "better", "real data"]
    print_table(columns, rows)
    if legend := _legend(rows, columns):
        echo(legend)


def _legend(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    """Return what to compare the values of a table with, for the columns that have numbers; empty without any."""
    texts = {
        "real data": "compare each value with that of real data",
        "ideal": "ideal: a perfect model with as many images",
    }
    numbers = {name: {row[columns.index(name)] for row in rows} - {"-"} for name in texts if name in columns}
    return "; ".join(text for name, text in texts.items() if numbers.get(name))


def _print_origin(header: Mapping[str, Any], evaluator: Evaluator) -> None:
    """Print what was measured, and the real images."""
    is_generated = header["step"] is not None
    words = "averaged" if header["weights"] == "average" else header["weights"]
    weights = f", step {header['step']:,}, {words} weights" if is_generated else ""
    weights += f" (half-life {half_life:g} kimg)" if (half_life := header["half_life_kimg"]) else ""
    echo(f"images: {header['count']:,} of {header['of']}{weights}, seed {header['seed']}")
    from gancore.config.data_paths import paths_of

    source, origin = evaluator.reference, evaluator.origin
    if evaluator.statistics:
        echo(f"reference: mean and covariance of features in {evaluator.statistics.name}")
    elif source:
        trained_on = origin.training is not None and origin.training.dataset == source.dataset
        relation = ", held out from training" if origin.held_out else ", which it was trained on" if trained_on else ""
        data = source.dataset
        paths = map(printable, paths_of(data)) if data is not None and data.name == source.name else ()
        names = " ".join(filter(None, [source.name, *paths, source.split]))
        echo(f"reference: {names}{relation if is_generated else ''}")


def half_life_in_words(kimg: float | None) -> str:
    """Return the half-life of an average (EMA); it has no number if it follows a schedule."""
    return "scheduled" if kimg is None else f"{kimg:g} kimg"


def _accuracy(result: Result, evaluator: Evaluator) -> str | None:
    """Return how well a classifier that was trained for the evaluation classifies; None without one."""
    from gancore.metrics import LearnedExtractor

    extractor, used = result.about["extractor"], evaluator.metrics[result.name].extractor
    if not isinstance(extractor, dict):
        return None
    name = f"{extractor['name']} {extractor['sha256'][:12]}"
    if extractor["accuracy"] is None:
        is_unchecked = isinstance(used, LearnedExtractor) and used.needs_labels
        return f"extractor {name} was not checked, since no images are held out" if is_unchecked else None
    gate = f", of which it must reach {extractor['gate']:.1%}" if extractor["gate"] is not None else ""
    return f"extractor {name} classifies {extractor['accuracy']:.2%} of held-out images correctly{gate}"


def _detail(metric: str, key: str, classes: Sequence[str]) -> str:
    """Return the name of a metric's detail, with the name of the class if it is `class_` and a number."""
    number = key.removeprefix("class_")
    known = number.isdecimal() and number != key and int(number) < len(classes)
    name = printable(classes[int(number)]) if known else number
    return f"{metric}.{key}" + ("" if name == number else f" ({name[:_LONGEST_NAME]})")


def _rows(result: Result, classes: Sequence[str]) -> Iterator[list[str]]:
    """Yield a row for the metric's value, and one for each of its details."""
    from gancore.utils.text import short_number

    real, measured, extractor = result.real_data, result.measured, result.about["extractor"]
    label = f"{extractor['name']} {extractor['sha256'][:12]}" if isinstance(extractor, dict) else ""
    images, stand_ins = (
        " : ".join(f"{count:,}" for count in counts.values()) for counts in (result.counts, result.real_data_counts)
    )
    numbers = [short_number(real.value if real else None), short_number(measured.ideal.get("value"))]
    yield [result.name, short_number(measured.value), result.better, *numbers, images, stand_ins, label]
    for key, value in measured.details.items():
        numbers = [short_number(real.details.get(key) if real else None), short_number(measured.ideal.get(key))]
        yield [_detail(result.name, key, classes), short_number(value), "", *numbers, "", "", ""]
