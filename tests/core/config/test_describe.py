from typing import Annotated, Literal

import pytest
from pydantic import Field

from gancore.catalog.catalog import Catalog
from gancore.config.describe import describe
from gancore.config.layers import ConfigLayer
from gancore.config.run import Labeled, RunConfig, resolve
from gancore.contracts import Generator, Loss, Schedulable
from gancore.settings import Settings
from helpers.metric_inputs import GIVEN
from helpers.tiny_components import PARTS, TinyGenerator, catalog

INSTALLED = Catalog.installed()
OFFERED = [component for kind in INSTALLED.kinds.values() for component, _ in INSTALLED.offers(kind)]
LOSS = "loss functions of both players: two methods, or `build`, which returns a module that has them"


def keys(settings):
    """All keys of a table and of the tables in it, found without `describe`."""
    for name, info in settings.model_fields.items():
        key = info.alias or name
        table = getattr(info.annotation, "__args__", (info.annotation,))[0]
        if isinstance(table, type) and issubclass(table, Settings) and not hasattr(table, "kind"):
            yield from (f"{key}.{inner}" for inner in keys(table))
            if table is info.annotation:
                continue
        yield key


class Table(Settings):
    size: int = Field(default=3, gt=1, lt=9, description="how large")


class Parts(TinyGenerator):
    """Everything that can be described."""

    name = "parts"
    flag: bool = Field(default=True, description="a flag")
    ratio: float = Field(default=0.5, ge=0, le=1, description="a ratio")
    must: int = Field(description="a number that has to be given")
    choice: Literal["a", 2] = Field(default="a", description="a choice")
    widths: tuple[Annotated[int, Field(ge=1, le=9)], ...] = Field(default=(1, 2), description="a list")
    pair: tuple[int, float] = Field(default=(1, 2.0), description="a pair")
    maybe: Literal["batch"] | None = Field(default=None, description="perhaps")
    gamma: Schedulable = Field(default=1.0, description="a moving number")
    inner: Generator = Field(default=TinyGenerator(width=3), description="another generator")
    loss: Loss | None = None


class Whole(Settings):
    table: Table = Table()
    perhaps: Table | None = Field(default=None, description="a table")
    losses: Labeled[Loss] = Field(default={})
    version: int = Field(default=1, alias="schema", description="a number")


@pytest.mark.parametrize("settings", [RunConfig, *OFFERED], ids=lambda cls: cls.__name__)
def test_describe_has_every_field_with_help(settings):
    fields = describe(settings)
    assert sorted(field["key"] for field in fields) == sorted(keys(settings))
    assert [field["key"] for field in fields if not field["help"] or not field["type"]] == []


@pytest.mark.parametrize("component", OFFERED, ids=lambda cls: f"{cls.kind}-{cls.name}")
def test_components_have_a_summary(component):
    assert len(component.summary()) > 10


@pytest.mark.parametrize("settings", OFFERED, ids=lambda cls: f"{cls.kind}-{cls.name}")
def test_describe_defaults_are_the_real_defaults(settings):
    for field in describe(settings):
        if field["default"] is None:
            continue
        data = {field["key"]: field["default"]}
        needed = {"extractor": GIVEN} if "features" in getattr(settings, "needs", ()) or settings.name == "is" else {}
        needed |= {key: "given" for key, info in settings.model_fields.items() if info.is_required()}
        assert settings.model_validate(data | needed, context=INSTALLED) == settings(**needed)


def test_describe_gives_type_default_bounds_and_help():
    rows = {field["key"]: tuple(field.values())[1:] for field in describe(Parts)}
    assert rows == {
        "width": ("int", 8, ">= 1, <= 64", "hidden units"),
        "flag": ("bool", True, "", "a flag"),
        "ratio": ("float", 0.5, ">= 0, <= 1", "a ratio"),
        "must": ("int", None, "", "a number that has to be given"),
        "choice": ('"a" or 2', "a", "", "a choice"),
        "widths": ("list of int", [1, 2], ">= 1, <= 9", "a list"),
        "pair": ("[int, float]", [1, 2.0], "", "a pair"),
        "maybe": ('"batch" or absent', None, "", "perhaps"),
        "gamma": ("float or {from, to, kimg, shape} or a list of these", 1.0, "", "a moving number"),
        "inner": ("name of a generator, or its table", {"name": "tiny", "width": 3}, "", "another generator"),
        "loss": ("name of a loss, or its table or absent", None, "", LOSS),
    }


def test_describe_lists_keys_of_tables_and_optional_tables():
    assert [tuple(field.values()) for field in describe(Whole)] == [
        ("table.size", "int", 3, "> 1, < 9", "how large"),
        ("perhaps", "table or absent", None, "", "a table"),
        ("perhaps.size", "int", 3, "> 1, < 9", "how large"),
        (
            "losses",
            "tables, each under a label: name of a loss, or its table",
            {},
            "",
            LOSS,
        ),
        ("schema", "int", 1, "", "a number"),
    ]


def test_describe_defaults_are_those_of_a_resolved_run():
    data = resolve([ConfigLayer("parts", PARTS | {"ema": {}, "report": {}})], catalog()).to_data(catalog())
    labeled = {"regularizers", "augmentations", "metrics", "observers"}
    assert not labeled & set(data)
    for field in describe(RunConfig):
        value = data | {label: {} for label in labeled}
        for part in field["key"].split("."):
            value = value.get(part)
        if field["key"] not in {*PARTS, "ema", "report"}:
            assert value == field["default"]
