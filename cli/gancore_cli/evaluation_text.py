"""Evaluations as the command `evaluate` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gancore_cli.options import echo, print_table

if TYPE_CHECKING:
    from gancore.evaluation.evaluator import Evaluation, Evaluator, Result


def print_evaluation(header: Mapping[str, Any], evaluator: Evaluator, evaluation: Evaluation) -> None:
    """Print a line for each value, with the score of real data, and what it was computed from."""
    _print_origin(header, evaluator)
    rows = [row for result in evaluation.results for row in _rows(result)]
    columns = ["metric", "value", "better", "real data", "ideal", "images", "stand-ins", "extractor"]
    if all(row[4] == "-" for row in rows):  # no metric has an ideal value
        columns, rows = [*columns[:4], *columns[5:]], [[*row[:4], *row[5:]] for row in rows]
    print_table(columns, rows)
    for line in dict.fromkeys(_accuracy(result) for result in evaluation.results):
        if line:
            echo(line)


def print_averages(
    header: Mapping[str, Any], evaluator: Evaluator, averages: Sequence[tuple[float | None, Evaluation]]
) -> None:
    """Print the evaluations of averages (EMA) by their half-life in kimg, None for a schedule: a column for each."""
    from gancore.utils.text import short_number

    _print_origin(header, evaluator)
    names = ["scheduled" if half_life is None else f"{half_life:g} kimg" for half_life, _ in averages]
    rows = []
    for results in zip(*(evaluation.results for _, evaluation in averages), strict=True):
        of_real = results[0].real_data
        values = [short_number(result.measured.value) for result in results]
        rows.append([results[0].name, *values, results[0].better, short_number(of_real.value if of_real else None)])
        for key in results[0].measured.details:
            values = [short_number(result.measured.details.get(key)) for result in results]
            real = short_number(of_real.details.get(key) if of_real else None)
            rows.append([f"{results[0].name}.{key}", *values, "", real])
    print_table(["metric", *names, "better", "real data"], rows)


def _print_origin(header: Mapping[str, Any], evaluator: Evaluator) -> None:
    """Print what was measured, and the real images."""
    is_generated = header["step"] is not None
    weights = f", step {header['step']:,}, {header['weights']} weights" if is_generated else ""
    weights += f" of {half_life:g} kimg" if (half_life := header["half_life_kimg"]) else ""
    echo(f"images: {header['count']:,} of {header['of']}{weights}, seed {header['seed']}")
    source, origin = evaluator.reference, evaluator.origin
    if evaluator.statistics:
        echo(f"reference: mean and covariance of features in {evaluator.statistics.name}")
    elif source:
        trained_on = origin.training is not None and origin.training.dataset == source.dataset
        relation = ", held out from training" if origin.held_out else ", which it was trained on" if trained_on else ""
        echo(f"reference: {' '.join(filter(None, [source.name, source.split]))}{relation if is_generated else ''}")


def _accuracy(result: Result) -> str | None:
    """Return how well a classifier that was trained for the evaluation classifies; None without one."""
    extractor = result.about["extractor"]
    if not isinstance(extractor, dict) or extractor["accuracy"] is None:
        return None
    gate = f", of which it must reach {extractor['gate']:.1%}" if extractor["gate"] is not None else ""
    name = f"{extractor['name']} {extractor['sha256'][:12]}"
    return f"extractor {name} classifies {extractor['accuracy']:.2%} of held-out images correctly{gate}"


def _rows(result: Result) -> Iterator[list[str]]:
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
        yield [f"{result.name}.{key}", short_number(value), "", *numbers, "", "", ""]
