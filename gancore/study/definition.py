"""A study as its file describes it: a base, what varies, seeds, a budget, metrics, and for a search distributions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import Field, ValidationError, field_validator, model_validator

from gancore.config.duration import Duration
from gancore.config.layers import read_toml
from gancore.config.messages import problem_messages
from gancore.errors import numbered
from gancore.metrics import Better
from gancore.settings import REMOVE, Settings

Scalar = bool | int | float | str
Table = Mapping[str, Any]  # Any: data of a file, validated by the config of a run

FILE = "study.toml"
"""The study in its folder."""
BASE, BEST = "base", "best"
"""The arm that is the base without changes, and the one that a search has found."""
HALVING = "Halving"
"""The pruner that waits at each check until all runs have reached it, and continues the best of them."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MOST_SEEDS = 100_000
_KINDS = ("log", "range", "integers", "choice")


class Distribution(Settings):
    """What a search may choose for a key: one of four kinds, each inclusive."""

    log: tuple[float, float] | None = Field(default=None, description="numbers, uniform in their logarithm")
    range: tuple[float, float] | None = Field(default=None, description="numbers, uniform")
    integers: tuple[int, int] | None = Field(default=None, description="whole numbers")
    choice: tuple[Scalar, ...] | None = Field(default=None, min_length=1, description="one of these values")

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"must have one of {', '.join(_KINDS)}, such as log = [0.01, 100]")
        for low, high in filter(None, (self.log, self.range, self.integers)):
            if low >= high:
                raise ValueError(f"must go from a lower to a higher number; received [{low:g}, {high:g}]")
        if self.log and self.log[0] <= 0:
            raise ValueError(f"must be above 0 for log; received {self.log[0]:g}")
        return self

    @property
    def size(self) -> int | None:
        """How many values there are; None for numbers in an interval."""
        if self.integers:
            return self.integers[1] - self.integers[0] + 1
        return None if self.choice is None else len(self.choice)

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """The values that show whether all of them are valid: both ends, or every choice."""
        return self.choice or self.log or self.range or self.integers or ()


class StudyConfig(Settings):
    """A study. Arms are compared with a baseline over paired seeds; with a `space` the best setting is searched first.

    `base` is a recipe, a TOML file, or a table of config keys, with `recipe` as in a config file. `variants` and
    `space` have keys of the config, as tables. Without both, the base alone is trained with every seed, which shows how
    much its results differ and how often it fails.
    """

    base: str | dict[str, Any] = Field(description="recipe, TOML file, or table of config keys that all runs share")
    budget: str | None = Field(
        default=None, description="length of each run: a number of epochs, steps, kimg or minutes; absent: of the base"
    )
    seeds: int | tuple[int, ...] = Field(default=5, description="number of seeds from 0, or a list of seeds")
    metric: str = Field(
        description="the metric that is compared, and that a search improves; METRIC.NUMBER for a further number of it"
    )
    better: Better | None = Field(
        default=None, description="lower or higher, for a further number of a metric, such as modes.reverse_kl"
    )
    metrics: tuple[str, ...] | dict[str, Any] = Field(
        default=(), description="further metrics to report: names, or a table with their settings as in a config"
    )
    samples: int | None = Field(
        default=None, ge=2, description="number of samples that are measured; absent: the default of the dataset"
    )
    baseline: str = Field(default=BASE, description="name of the variant that others are compared with")
    variants: dict[str, dict[str, Any]] = Field(default={}, description="what varies: config keys by name")
    space: dict[str, Any] = Field(default={}, description="config keys that are searched, each with a distribution")
    trials: int = Field(default=50, ge=1, le=100_000, description="number of runs of a search")
    sampler: str | dict[str, Any] = Field(default="TPESampler", description="sampler of Optuna, and its arguments")
    pruner: str | dict[str, Any] | None = Field(
        default=None,
        description="pruner of Optuna, or Halving, which ends poor runs early, and its arguments; absent: none",
    )
    checks: tuple[int, ...] = Field(
        default=(12, 25, 50), description="percentages of the budget after which the pruner decides"
    )
    shortened: bool = Field(
        default=False,
        description="each check is a whole run as long as that share of the budget, so that its schedules end there; "
        "absent: one run is measured on its way",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="threads of a run, unless its config has fewer; absent: the share of the first worker",
    )
    storage: str | None = Field(
        default=None, description="database for the state, such as sqlite:///study.db; absent: a file in the folder"
    )

    @field_validator("metric", "metrics")
    @classmethod
    def _check_metrics(cls, names: str | tuple[str, ...] | dict[str, Any]) -> str | tuple[str, ...] | dict[str, Any]:
        for name in (names,) if isinstance(names, str) else names:
            if name.startswith("{"):
                raise ValueError("must be the name of a metric; write its settings as a table: [metrics.kid-random]")
        return names

    @field_validator("budget")
    @classmethod
    def _check_budget(cls, text: str | None) -> str | None:
        if text is not None:
            Duration.parse(text)
        return text

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(seeds, int):
            is_valid = 1 <= seeds <= _MOST_SEEDS
        else:
            is_valid = bool(seeds) and all(0 <= seed < 2**32 for seed in seeds) and len(set(seeds)) == len(seeds)
        if not is_valid:
            raise ValueError(f"must be a number from 1 to {_MOST_SEEDS:,}, or a list of different seeds from 0")
        return seeds

    @field_validator("variants")
    @classmethod
    def _check_names(cls, variants: dict[str, Table]) -> dict[str, Table]:
        for name in variants:
            if not _NAME.fullmatch(name) or name in (BASE, BEST):
                raise ValueError(
                    f"the name of a variant must have letters, digits, dots and dashes, and be neither {BASE} nor "
                    f"{BEST}; received {name!r}"
                )
        return variants

    @field_validator("checks")
    @classmethod
    def _check_percentages(cls, checks: tuple[int, ...]) -> tuple[int, ...]:
        if not checks or list(checks) != sorted(set(checks)) or not all(0 < check < 100 for check in checks):
            raise ValueError("must be one or more rising percentages from 1 to 99")
        return checks

    @field_validator("pruner")
    @classmethod
    def _check_halving(cls, pruner: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        if isinstance(pruner, dict) and pruner.get("name") == HALVING:
            factor = pruner.get("factor", 3)
            if pruner.keys() - {"name", "factor"} or not isinstance(factor, int) or factor < 2:
                raise ValueError(f"{HALVING} has the argument factor, a whole number from 2; received {pruner!r}")
        return pruner

    @model_validator(mode="after")
    def _check(self) -> Self:
        list(self.distributions())
        if self.space and self.variants:
            raise ValueError("must have either variants to compare, or a space to search; received both")
        if self.baseline != BASE and self.baseline not in self.variants:
            raise ValueError(f"baseline must be {BASE} or a variant; received {self.baseline!r}")
        if len(self.arms) < 2 and self.variants:
            raise ValueError("needs a variant besides the baseline")
        idle = self._without_effect()
        if idle:
            verb = "has" if len(idle) == 1 else "have"
            raise ValueError(f"{' and '.join(idle)} {verb} no effect without a {'pruner' if self.space else 'space'}")
        if self.shortened and self.budget is None:
            raise ValueError("needs a budget, of which each check is a share, if shortened is true")
        if "." in self.metric and self.better is None:
            raise ValueError(f"needs better = 'lower' or 'higher' for {self.metric}, a further number of a metric")
        if "." not in self.metric and self.better is not None:
            raise ValueError(f"better is for a further number of a metric, such as modes.reverse_kl, not {self.metric}")
        return self

    def _without_effect(self) -> list[str]:
        """Return the keys that are set, but that only a search or a pruner reads."""
        of_pruner = ["checks", "shortened"]
        of_search = ["trials", "sampler", "pruner", *of_pruner]
        read = (of_pruner if self.pruner is None else []) if self.space else of_search
        return [key for key in read if key in self.model_fields_set]

    @property
    def is_search(self) -> bool:
        """Whether the best setting is searched before it is compared."""
        return bool(self.space)

    @property
    def halving(self) -> int | None:
        """Of how many runs one continues after each check, if the pruner is `Halving`."""
        given: dict[str, Any] = {"name": self.pruner} if isinstance(self.pruner, str) else self.pruner or {}
        return int(given.get("factor", 3)) if given.get("name") == HALVING else None

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds of every arm."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def search_seed(self) -> int:
        """The seed of all runs of the search: none of those that the result is reported for."""
        return next(seed for seed in range(2**32) if seed not in self.seed_list)

    @property
    def arms(self) -> dict[str, Table]:
        """The config keys of each arm by name, the baseline first; without the one that a search will find."""
        every = {BASE: {}, **self.variants} if self.baseline == BASE else self.variants
        return {self.baseline: every[self.baseline], **every}

    @property
    def numbers(self) -> tuple[str, ...]:
        """The names of all numbers that are reported, the compared one first."""
        return tuple(dict.fromkeys((self.metric, *self.metrics)))

    def distributions(self) -> Iterator[tuple[str, Distribution]]:
        """Yield the dotted keys of the space with their distributions. Raises ValueError for other values."""
        yield from _distributions(self.space, "")

    @property
    def combinations(self) -> int | None:
        """How many different settings the space has; None if there is no end of them."""
        product = 1
        for _, distribution in self.distributions():
            if distribution.size is None:
                return None
            product *= distribution.size
        return product

    def budget_at(self, percent: int) -> str:
        """Return this share of the budget, as long as a run of a check with `shortened`."""
        total = Duration.parse(str(self.budget))
        amount = total.amount * percent / 100
        return f"{max(1, round(amount)) if total.unit == 'steps' else amount:.10g} {total.unit}"

    def to_toml(self) -> str:
        """Return the study as the file from which it can be repeated, without the password of a database."""
        data = self.model_dump(exclude_none=True, exclude_unset=True)
        if self.storage is not None:
            data["storage"] = without_password(self.storage)
        return tomli_w.dumps(data)


def without_password(url: str) -> str:
    """Return the address of a database without its password."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    login, at, place = authority.rpartition("@")
    shown = re.sub(r"([?&]password=)[^&]*", r"\1", path)
    return f"{scheme}{separator}{login.partition(':')[0]}{at}{place}{slash}{shown}"


def metric_of(number: str) -> str:
    """Return the metric that a number is of: `modes` for `modes.reverse_kl`."""
    return number.partition(".")[0]


def _distributions(table: Table, above: str) -> Iterator[tuple[str, Distribution]]:
    for key, value in table.items():
        path = f"{above}{key}"
        if not isinstance(value, Mapping) or not value:
            raise ValueError(f"space.{path} must be a distribution, such as {{log = [0.01, 100]}}; received {value!r}")
        if not all(kind in _KINDS for kind in value):
            yield from _distributions(value, f"{path}.")
            continue
        try:
            yield path, Distribution.model_validate(value)
        except ValidationError as error:
            problems = problem_messages(error, value, {})
            raise ValueError(f"space.{path} {'; '.join(problems).removeprefix('run: ')}") from None


def read_study(source: Path | Table) -> StudyConfig:
    """Return the study in a TOML file, or in a table of the same keys. Raises ConfigError with everything wrong.

    A base that is a file, by its path or next to that of the study, is read now: its content is what counts.
    """
    if isinstance(source, Mapping):
        data, name, folder = dict(source), "the study", Path()
    else:
        data, name, folder = read_toml(source, "name the TOML file of a study"), str(source), source.parent
    base = data.get("base")
    if isinstance(base, str) and base.endswith(".toml"):
        file = Path(base) if Path(base).exists() else folder / base
        data["base"] = read_toml(file, "name a recipe, or a TOML file by its path or next to the study")
    data |= {key: _without_none(data[key]) for key in ("base", "variants", "metrics") if key in data}
    try:
        return StudyConfig.model_validate({key: value for key, value in data.items() if value not in (None, REMOVE)})
    except ValidationError as error:
        problems = [text.removeprefix("run: ") for text in problem_messages(error, data, {})]
    raise numbered(name, problems, "see the keys with: gancore study --help")


def _without_none(value: object) -> object:
    """Return data with the text that removes a key in place of None, which a TOML file cannot hold."""
    if isinstance(value, Mapping):
        return {key: _without_none(each) for key, each in value.items()}
    return REMOVE if value is None else value


def is_study(folder: Path) -> bool:
    """Return whether a folder is that of a study."""
    return (folder / FILE).is_file()
