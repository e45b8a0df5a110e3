"""What others build on does not change by accident: it is written down in tests/frozen."""

import dataclasses

import pytest
from pydantic import Field

from gancore.contracts import Generator
from gancore.settings import Settings
from helpers import api_snapshot as freeze
from helpers.api_snapshot import FOLDER, SUBJECTS, frozen, members


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_interface_is_as_it_was_written_down(subject):
    kept = (FOLDER / subject).read_text(encoding="utf-8")
    assert frozen(subject) == kept, "if the change is meant: python tests/helpers/api_snapshot.py, and CHANGELOG.md"


def test_nothing_else_is_written_down():
    assert {path.name for path in FOLDER.iterdir()} == {*SUBJECTS}


def test_every_public_name_is_written_down():
    import gancore

    text = frozen("api.txt")
    assert all(f" {name}" in text or f"\n{name}" in text for name in gancore.__all__)


class Before(Generator):
    """A component."""

    name = "before"
    width: int = Field(default=8, ge=1, description="units")

    def build(self, shape, latent_dim, num_classes):
        """Never called."""

    @property
    def doubled(self) -> int:
        return 2 * self.width


def told(cls):
    return sorted(members(cls))


@pytest.mark.parametrize(
    "changes",
    [
        {"width": Field(default=9, ge=1, description="units"), "__annotations__": {"width": int}},
        {"width": Field(default=8, ge=0, description="units"), "__annotations__": {"width": int}},
        {"width": Field(default=8, ge=1, description="units"), "__annotations__": {"width": float}},
        {"build": lambda self, shape, latent_dim: None},
        {"build": lambda self, shape, latent_dim, num_classes=None: None},
        {"more": lambda self: None},
        {"name": "after"},
    ],
    ids=["default", "bound", "type", "parameter", "optional", "method", "name"],
)
def test_a_change_of_a_class_is_a_change_of_what_is_written_down(changes):
    after = type("Before", (Before,), {"__module__": "gancore", "__qualname__": "Before", **changes})
    before = type("Before", (Before,), {"__module__": "gancore", "__qualname__": "Before"})
    assert told(before) != told(after)


def test_what_is_private_or_only_said_may_change():
    assert freeze.field({"key": "a", "type": "int", "default": 1, "bounds": "", "help": "one"}) == freeze.field(
        {"key": "a", "type": "int", "default": 1, "bounds": "", "help": "two"}
    )

    class One:
        __module__ = "gancore"

        def _hidden(self, one):
            """A secret."""

        def shown(self, value: "int" = 1) -> "str | None":
            """Public."""

    assert told(One) == ["def shown(self, value: int = 1) -> str | None"]


def test_a_dataclass_is_written_down_by_its_constructor():
    @dataclasses.dataclass(frozen=True)
    class Pair:
        first: "int"
        second: "tuple[str, ...]" = ()

    assert told(Pair) == ["__init__(self, first: int, second: tuple[str, ...] = ()) -> None"]


def test_keys_of_a_table_are_written_down_with_type_default_and_bounds():
    class Table(Settings):
        """A table."""

        count: int = Field(default=3, ge=1, le=9, description="how many")
        maybe: str | None = Field(default=None, description="perhaps")

    assert [line for line in told(Table) if ": " in line and "(" not in line] == [
        "count: int = 3  [>= 1, <= 9]",
        "maybe: str or absent",
    ]
