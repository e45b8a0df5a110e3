"""The public interface equals its snapshots in tests/frozen."""

import dataclasses

import pytest
from pydantic import Field

from gancore.contracts import Generator
from gancore.settings import Settings
from helpers.api_snapshot import FOLDER, SUBJECTS, field, frozen, members


@pytest.mark.parametrize("subject", SUBJECTS)
def test_interface_equals_its_snapshot(subject):
    kept = (FOLDER / subject).read_text(encoding="utf-8")
    assert frozen(subject) == kept, "to accept the change: python tests/helpers/api_snapshot.py, and CHANGELOG.md"


def test_snapshots_are_only_those_of_the_subjects():
    assert {path.name for path in FOLDER.iterdir()} == {*SUBJECTS}


def test_snapshot_contains_every_public_name():
    import gancore

    text = frozen("api.txt")
    assert all(f" {name}" in text or f"\n{name}" in text for name in gancore.__all__)


class Before(Generator):
    """A component."""

    name = "before"
    width: int = Field(default=8, ge=1, description="units")

    def build(self, spec):
        """Never called."""

    @property
    def doubled(self) -> int:
        return 2 * self.width


def lines(cls):
    return sorted(members(cls))


@pytest.mark.parametrize(
    "changes",
    [
        {"width": Field(default=9, ge=1, description="units"), "__annotations__": {"width": int}},
        {"width": Field(default=8, ge=0, description="units"), "__annotations__": {"width": int}},
        {"width": Field(default=8, ge=1, description="units"), "__annotations__": {"width": float}},
        {"build": lambda self, spec, latent_dim: None},
        {"build": lambda self, spec=None: None},
        {"more": lambda self: None},
        {"name": "after"},
    ],
    ids=["default", "bound", "type", "parameter", "optional", "method", "name"],
)
def test_snapshot_changes_if_a_class_changes(changes):
    after = type("Before", (Before,), {"__module__": "gancore", "__qualname__": "Before", **changes})
    before = type("Before", (Before,), {"__module__": "gancore", "__qualname__": "Before"})
    assert lines(before) != lines(after)


def test_snapshot_ignores_help_and_private_names():
    assert field({"key": "a", "type": "int", "default": 1, "bounds": "", "help": "one"}) == field(
        {"key": "a", "type": "int", "default": 1, "bounds": "", "help": "two"}
    )

    class One:
        __module__ = "gancore"

        def _hidden(self, one):
            """A secret."""

        def shown(self, value: "int" = 1) -> "str | None":
            """Public."""

    assert lines(One) == ["def shown(self, value: int = 1) -> str | None"]


def test_snapshot_of_a_dataclass_is_its_constructor():
    @dataclasses.dataclass(frozen=True)
    class Pair:
        first: "int"
        second: "tuple[str, ...]" = ()

    assert lines(Pair) == ["__init__(self, first: int, second: tuple[str, ...] = ()) -> None"]


def test_snapshot_of_settings_has_type_default_and_bounds():
    class Table(Settings):
        """A table."""

        count: int = Field(default=3, ge=1, le=9, description="number")
        maybe: str | None = Field(default=None, description="optional")

    assert [line for line in lines(Table) if ": " in line and "(" not in line] == [
        "count: int = 3  [>= 1, <= 9]",
        "maybe: str or absent",
    ]
