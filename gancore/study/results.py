"""Results of a study: a row for each run, arms compared with the baseline, and both as a table of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from gancore.checkpoint.log import to_pandas
from gancore.config.layers import flattened
from gancore.errors import ConfigError
from gancore.metrics import Better
from gancore.study.arms import in_words
from gancore.study.definition import BEST, StudyConfig
from gancore.study.statistics import (
    FEWEST_SHARE,
    WORST_FACTOR,
    Comparison,
    failure_of,
    holm,
    in_range,
    paired_ratio,
    rank_test,
    ranks_better,
    share_of_failures,
    smallest_p,
)
from gancore.utils.json import json_safe
from gancore.utils.text import duration, short_number

SEARCH, COMPARISON = "search", "comparison"
"""The stages of a study; one without a space has only the second."""


@dataclass(frozen=True)
class Outcome:
    """What is stored of a run. `state` is waiting, running, finished, pruned or failed; `failure` says why it failed.

    `is_error` says that an error has ended it, which another try may not have. `keys` are the dotted config keys that
    the arm sets, `numbers` the metrics, `real_data` those of real images, `warnings` what its training warned of.
    """

    stage: str
    name: str
    arm: str
    seed: int
    state: str
    keys: Mapping[str, Any]  # Any: data of a file
    numbers: Mapping[str, float | None]
    real_data: Mapping[str, float | None] = field(default_factory=dict)
    failure: str = ""
    is_error: bool = False
    warnings: Sequence[str] = ()
    step: int = 0
    kimg: float = 0.0
    seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether it was trained to its end, or has failed."""
        return self.state in ("finished", "failed")

    @property
    def is_over(self) -> bool:
        """Whether it is not trained any more."""
        return self.state not in ("waiting", "running")

    def value(self, metric: str) -> float:
        """Return the value of a metric, NaN without one."""
        number = self.numbers.get(metric)
        return math.nan if number is None else number


class Results(list[dict[str, Any]]):
    """A dict for each run of a study, in the order in which they were planned."""

    def to_pandas(self) -> Any:  # Any: a pandas.DataFrame, and pandas need not be installed
        """Return a pandas DataFrame with one row per run. Raises ConfigError when pandas is not installed."""
        return to_pandas(self)


@dataclass(frozen=True)
class StudyReport:
    """All that is known of a study. `better` says which values of a metric are better.

    `chosen_by` says which real images a search compares with, `reported_by` which ones results are compared with.
    """

    config: StudyConfig
    outcomes: Sequence[Outcome]
    better: Mapping[str, Better]
    chosen_by: str
    reported_by: str
    machine: str

    @property
    def real_data(self) -> Mapping[str, float | None]:
        """The scores of real data by metric; empty before the first run of the comparison has finished."""
        return next((each.real_data for each in self.outcomes if each.stage == COMPARISON and each.real_data), {})

    def rows(self) -> Results:
        """Return a dict for each run: stage, arm, seed, state, failure, what it took, its keys, and its metrics."""
        failures = self.failures
        return Results(
            {
                "stage": each.stage,
                "run": f"runs/{each.name}",
                "arm": each.arm,
                "seed": each.seed,
                "state": each.state,
                "failure": failures[each.name] or "",
                "step": each.step,
                "kimg": each.kimg,
                "seconds": each.seconds,
                **each.keys,
                **each.numbers,
            }
            for each in self.outcomes
        )

    @property
    def searched(self) -> list[Outcome]:
        """The runs of the search."""
        return [each for each in self.outcomes if each.stage == SEARCH]

    @property
    def arms(self) -> dict[str, list[Outcome]]:
        """The runs of each arm by seed, the baseline first."""
        found: dict[str, list[Outcome]] = {}
        for each in self.outcomes:
            if each.stage == COMPARISON:
                found.setdefault(each.arm, []).append(each)
        return found

    @property
    def failures(self) -> dict[str, str | None]:
        """Why each run has failed by the stated rule, by its name; None if it has not, or is not finished."""
        metric, better = self.config.metric, self.better.get(self.config.metric, "lower")
        baseline = [each.value(metric) for each in self.arms.get(self.config.baseline, ())]
        finite = [value for value in baseline if math.isfinite(value)]

        def failure(each: Outcome) -> str | None:
            if each.failure or not each.is_done:
                return each.failure or None
            shares = [
                (number, each.real_data.get(name))
                for name, number in each.numbers.items()
                if name.endswith(".rarest_share") and number is not None
            ]
            return failure_of(each.numbers.get(metric), shares, finite if each.stage == COMPARISON else (), better)

        return {each.name: failure(each) for each in self.outcomes}

    @property
    def is_finished(self) -> bool:
        """Whether no run of the comparison is missing."""
        arms = self.arms
        return bool(arms) and all(each.is_done for runs in arms.values() for each in runs)

    def comparisons(self, metric: str | None = None) -> list[Comparison]:
        """Return each arm compared with the baseline by a metric, over the seeds that both have finished.

        Raises ConfigError for a number of which it is not known what is better.
        """
        metric = metric or self.config.metric
        if metric not in self.better:
            raise ConfigError(f"arms cannot be compared by {metric}", f"name one of {', '.join(self.better)}")
        better, arms, failures = self.better[metric], self.arms, self.failures
        base = {each.seed: each for each in arms.get(self.config.baseline, ()) if each.is_done}
        found: list[Comparison] = []
        for arm, runs in arms.items():
            pairs = [(each, base[each.seed]) for each in runs if each.seed in base and each.is_done]
            if arm == self.config.baseline or not pairs:
                continue
            own, others = ([each.value(metric) for each in side] for side in zip(*pairs, strict=True))
            failed, failed_baseline = (
                sum(failures[each.name] is not None for each in side) for side in zip(*pairs, strict=True)
            )
            ratio, low, high = paired_ratio(own, others) or (None, None, None)
            found.append(
                Comparison(
                    arm=arm,
                    baseline=self.config.baseline,
                    metric=metric,
                    better=better,
                    ratio=ratio,
                    low=low,
                    high=high,
                    p=rank_test(own, others, better),
                    is_better=ranks_better(own, others, better),
                    smallest_p=smallest_p(len(pairs), len(arms) - 1),
                    arms=len(arms) - 1,
                    failed=failed,
                    failed_baseline=failed_baseline,
                    seeds=len(pairs),
                )
            )
        corrected = holm([each.p for each in found], len(arms) - 1)
        return [replace(each, p=p) for each, p in zip(found, corrected, strict=True)]

    def best_searched(self) -> Outcome | None:
        """Return the run of the search with the best metric; None if none has ended with a finite one.

        Those that have failed by the rule, such as one that lacks a class, are chosen only if there are no others.
        """
        metric, failures = self.config.metric, self.failures
        finite = [each for each in self.searched if each.state == "finished" and math.isfinite(each.value(metric))]
        finite = [each for each in finite if failures[each.name] is None] or finite
        sign = -1 if self.better.get(metric) == "higher" else 1
        return min(finite, key=lambda each: sign * each.value(metric), default=None)

    def warnings(self) -> list[str]:
        """Return what runs warned of, once each, with the arms whose runs did unless all have."""
        arms = dict.fromkeys(each.arm for each in self.outcomes if each.is_over)
        warned: dict[str, dict[str, None]] = {}
        for each in self.outcomes:
            for text in each.warnings:
                warned.setdefault(text, {})[each.arm] = None
        return [text if len(those) == len(arms) else f"{', '.join(those)}: {text}" for text, those in warned.items()]

    def scope(self) -> str:
        """Return after how much training, and with which settings, the conclusions hold."""
        config = self.config
        after = f"After {config.budget}, with" if config.budget else "With"
        if any("recipe" in keys for keys in config.variants.values()):
            return f"{after} the settings of each arm"
        other = "other " if config.is_search else ""
        return f"{after} the {other}settings of {config.base if isinstance(config.base, str) else 'the base'}"

    def conclusions(self) -> list[str]:
        """Return what may be concluded: a sentence for each arm and for the search, or how often the only arm fails."""
        compared = [comparison.conclusion for comparison in self.comparisons()]
        return [*self.search_in_words(), *(compared or self._failures_in_words())]

    def _failures_in_words(self) -> Iterator[str]:
        """Yield how often the only arm has failed."""
        done = [each for runs in self.arms.values() for each in runs if each.is_done]
        if len(self.arms) == 1 and done:
            failures = self.failures
            yield share_of_failures(done[0].arm, sum(failures[each.name] is not None for each in done), len(done))

    def search_in_words(self) -> Iterator[str]:
        """Yield what was searched and found, in sentences; nothing for a study without a search."""
        if not self.config.is_search:
            return
        best, runs = self.best_searched(), self.searched
        done = sum(each.is_over for each in runs)
        pruned = sum(each.state == "pruned" for each in runs)
        kimg, time = sum(each.kimg for each in runs), duration(sum(each.seconds for each in runs))
        early = f", of which {pruned} were ended early" if pruned else ""
        yield f"{done} of {len(runs)} settings were tried{early}; training took {time} for {kimg:,.0f} kimg."
        if best:
            value = short_number(best.value(self.config.metric))
            yield f"{BEST} is {in_words(best.keys)}: {self.config.metric} {value} when it was chosen ({best.name})."

    def table(self) -> list[list[str]]:
        """Return the lines of a table, the heading first: for each arm its metrics, and how it compares."""
        metric, failures = self.config.metric, self.failures
        compared = {each.arm: each for each in self.comparisons()}
        names = list(self.config.numbers)
        ratios = [f"ratio of {metric}", "p"] if len(self.arms) > 1 else []
        lines = [["arm", "seeds", *names, "failed", *ratios, "kimg", "time"]]
        if self.real_data:
            scores = [short_number(self.real_data.get(name)) for name in names]
            lines.append(["real data", "", *scores, *[""] * (3 + len(ratios))])
        for arm, runs in self.arms.items():
            done = [each for each in runs if each.is_done]
            seeds = f"{len(done)}" if len(done) == len(runs) else f"{len(done)} of {len(runs)}"
            cells = [in_range([each.value(name) for each in done]) for name in names]
            failed = f"{sum(failures[each.name] is not None for each in done)}"
            against = compared.get(arm)
            ratio, p = ("", "") if against is None else (against.ratio_text, f"{against.p:.2g}")
            kimg = f"{median(each.kimg for each in done):,.0f}" if done else ""
            time = duration(median(each.seconds for each in done)) if done else ""
            lines.append([arm, seeds, *cells, failed, *([ratio, p] if ratios else []), kimg, time])
        return lines

    def legend(self) -> str:
        """Return what the table has in parentheses, empty if nothing; `rule` says it at length."""
        texts = []
        if len(self.config.seed_list) > 1:
            texts.append("medians over the seeds (lowest to highest)")
        if any(each.low is not None and each.can_differ for each in self.comparisons()):
            texts.append("ratio of the medians (95 % interval)")
        return "; ".join(texts)

    def rule(self) -> str:
        """Return how arms are compared, and when a run counts as failed, in sentences."""
        metric, baseline = self.config.metric, self.config.baseline
        medians = "Medians over the seeds, the lowest and the highest in parentheses."
        compared = (
            f"Ratio: of the medians to that of {baseline}, over the same seeds, with its 95 % interval (bootstrap over "
            "pairs; of each arm alone, and too narrow with few seeds). p: Mann-Whitney, two-sided, corrected for the "
            "number of arms (Holm)."
        )
        is_lower = self.better.get(metric, "lower") == "lower"
        far = f"above {WORST_FACTOR:g} times" if is_lower else f"below 1/{WORST_FACTOR:g} of"
        failed = (
            f"Failed: ended by an error, not finite, {self._rule_of_classes()}or a value of {metric} {far} the median "
            f"of {baseline}."
        )
        return " ".join([medians, *([compared] if len(self.arms) > 1 else []), failed])

    def _rule_of_classes(self) -> str:
        """Return the rule about classes, empty if no metric counts them."""
        if not any(name.endswith(".rarest_share") for each in self.outcomes for name in each.numbers):
            return ""
        share = f"a class below {FEWEST_SHARE:.0%} of the samples"
        return f"{share} (below half of its share of real data where that is less), "

    def document(self) -> dict[str, object]:
        """Return the report as data for JSON."""
        document: dict[str, object] = json_safe(
            {
                "finished": self.is_finished,
                "metric": self.config.metric,
                "better": self.better.get(self.config.metric),
                "baseline": self.config.baseline,
                "chosen_by": self.chosen_by or None,
                "reported_by": self.reported_by,
                "real_data": dict(self.real_data),
                "scope": self.scope(),
                "conclusions": self.conclusions(),
                "warnings": self.warnings(),
                "comparisons": [asdict(each) for each in self.comparisons()],
                "best": dict(best.keys) if (best := self.best_searched()) else None,
                "variants": {name: flattened(keys) for name, keys in self.config.variants.items()},
                "runs": list(self.rows()),
                "machine": self.machine,
            }
        )
        return document
