import types
from typing import Annotated, Any, ClassVar, Literal, Optional

import pytest
from hypothesis import find, given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator, model_validator

from gancore import testing
from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Regularizer, Schedulable
from gancore.errors import PluginError
from helpers.strategies import components
from helpers.tiny_components import Hinge, Noise, TinyDiscriminator, TinyGenerator, catalog


class Base(Generator):
    """Summary line.

    More text.
    """

    name = "base"

    def build(self, spec):
        raise NotImplementedError


def define(annotation, default=..., key="key"):
    """Return a component class with one field, without a default unless one is given."""
    values = {} if default is ... else {key: default}
    body = {"__annotations__": {key: annotation}, "__module__": __name__, "name": "defined", **values}
    return types.new_class("Defined", (Base,), {}, lambda namespace: namespace.update(body))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (bool, True),
        (int, 3),
        (float, 0.5),
        (str, "x"),
        (Literal["a", 1, True], "a"),
        (tuple[int, ...], (1, 2)),
        (tuple[bool, str], (True, "x")),
        (tuple[tuple[float, ...], ...], ((1.0,), ())),
        (tuple[Annotated[int, Field(ge=1)], ...], (1,)),
        (Schedulable, 1.0),
        (tuple[Schedulable, ...], (1.0,)),
        (Annotated[int, Field(ge=1)], 1),
        (int | str, "x"),
        (Noise, Noise()),
        (Generator, TinyGenerator()),
        (tuple[Loss, ...], (Hinge(),)),
        (int | None, None),
        (Optional[str], None),  # noqa: UP045  # both spellings
        (Schedulable | None, None),
        (Noise | None, None),
        (tuple[int, ...] | None, None),
        (Annotated[int | None, Field(ge=1)], None),
    ],
)
def test_field_types_that_survive_a_file_are_allowed(annotation, value):
    cls = define(annotation, value)
    assert cls().key == value
    assert hash(cls()) == hash(cls(key=value))


class Thing:
    pass


@pytest.mark.parametrize(
    "annotation",
    [
        *(list[int], dict[str, int], set[int], tuple, Any, object, bytes, complex, Thing, type, None, "Nowhere"),
        *(list[int] | None, tuple[list[int], ...], tuple[int | None, ...], tuple[Any, ...], int | Thing),
        *(Literal["none", "x"], Literal["x", None], Literal[b"x"]),
    ],
)
def test_field_types_that_do_not_survive_a_file_are_rejected(annotation):
    with pytest.raises(
        TypeError, match=r"Defined\.key: the type of a field must be bool, int, .*; received .*plugins check"
    ):
        define(annotation, None)


@pytest.mark.parametrize("default", [3, "x", ..., Field(default=1), Field(description="a number")])
def test_field_default_must_be_none_if_optional(default):
    with pytest.raises(TypeError, match=r"Defined\.key: the default of an optional field must be None.*; received"):
        define(int | str | None, default)


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (float, Field(default=0.0, gt=0)),
        (tuple[float, ...], [1.0, 2.0]),
        (tuple[float, ...], Field(default=(1.0,), min_length=2)),
        (float, Field(default_factory=lambda: "x")),
        (str, b"x"),
        (tuple[int, ...], {1}),
        (Literal["a"], "b"),
        (Schedulable, "x"),
        (Loss, 3),
    ],
)
def test_field_default_must_be_valid_for_its_field(annotation, default):
    with pytest.raises(TypeError, match=r"Defined\.key: the default is not valid for its field; received .*: "):
        define(annotation, default)


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (float, float("inf")),
        (float, Field(default=float("nan"), allow_inf_nan=True)),
        (tuple[float, ...], (1.0, float("inf"))),
        (str, "none"),
    ],
)
def test_field_default_must_be_writable_to_a_file(annotation, default):
    with pytest.raises(TypeError, match=r"Defined\.key: the default must be finite and not 'none'"):
        define(annotation, default)


def test_validators_may_use_names_that_are_defined_later():
    class WithFieldValidator(Base):
        key: int = 1

        @field_validator("key")
        @classmethod
        def _known(cls, key):
            return defined_later(key)  # noqa: F821  # defined after the class

    with pytest.raises(PluginError, match="defined_later"):
        WithFieldValidator()

    class WithModelValidator(Base):
        key: int = 1

        @model_validator(mode="after")
        def _known(self):
            return defined_later(self)  # noqa: F821  # as above

    with pytest.raises(NameError, match="defined_later"):
        WithModelValidator()


def test_validators_of_a_field_check_its_default():
    with pytest.raises(TypeError, match=r"Even\.key: the default is not valid for its field; received 1: .*even"):

        class Even(Base):
            key: int = 1

            @field_validator("key")
            @classmethod
            def _even(cls, key):
                if key % 2:
                    raise ValueError("must be even")
                return key


def test_field_default_may_be_the_name_of_a_component():
    assert define(Loss, "hinge").model_fields["key"].default == "hinge"


@pytest.mark.parametrize(
    "key", ["copy", "json", "schema", "dict", "build", "name", "kind", "head", "summary", "model_fields", "keys"]
)
def test_field_names_of_component_attributes_are_rejected(key):
    with pytest.raises(TypeError, match=rf"Defined\.{key}: the name is reserved by Component; choose another"):
        define(int, 3, key)


def test_component_name_may_be_annotated_as_classvar():
    class Annotated_(Base):  # noqa: N801
        name: ClassVar[str] = "annotated"
        more: "ClassVar[int]" = 3

    assert Annotated_.keys() == []
    assert Annotated_.name == "annotated"


def test_field_value_none_as_text_is_rejected():
    cls = define(str, "x")
    assert cls(key="nonesuch").key == "nonesuch"
    with pytest.raises(ValidationError, match="key: 'none' removes a key in a file"):
        cls(key="none")


@given(st.data())
def test_components_are_frozen_hashable_and_equal_by_value(data):
    cls = data.draw(st.sampled_from([TinyGenerator, TinyDiscriminator, Noise, Hinge]))
    component = data.draw(components(cls))
    twin = cls(**{key: getattr(component, key) for key in cls.model_fields})
    assert twin == component
    assert hash(twin) == hash(component)
    for key in cls.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(component, key, getattr(component, key))


def test_components_of_two_classes_are_unequal_despite_equal_fields():
    assert TinyGenerator(width=3) != TinyDiscriminator(width=3)
    assert len({Hinge(), Noise(), TinyGenerator(), TinyGenerator(width=8)}) == 3


@pytest.mark.parametrize("kind", [Generator, Discriminator, Dataset, Augmentation])
def test_kinds_with_an_abstract_build_cannot_be_instantiated(kind):
    with pytest.raises(TypeError, match="abstract"):
        kind()


@pytest.mark.parametrize("kind", [Loss, Regularizer])
def test_kinds_without_an_abstract_method_cannot_be_instantiated(kind):
    with pytest.raises(ValidationError, match="must have a `name`"):
        kind()


def test_summary_is_the_first_line_of_the_docstring():
    assert Base.summary() == "Summary line."


class TestReading:
    """Components from the data of a file."""

    def read(self, cls, data):
        return cls.model_validate(data, context=catalog())

    @pytest.mark.parametrize("cls", [Generator, TinyGenerator])
    def test_component_is_read_from_a_name_or_a_table_with_a_name(self, cls):
        assert self.read(cls, "tiny") == TinyGenerator()
        assert self.read(cls, {"name": "tiny"}) == TinyGenerator()
        assert self.read(cls, {"name": "tiny", "width": 3}) == TinyGenerator(width=3)
        assert self.read(cls, {"name": "gancore-worlds:tiny"}) == TinyGenerator()
        assert self.read(cls, TinyGenerator(width=3)) == TinyGenerator(width=3)

    def test_component_table_needs_no_name_if_its_class_is_known(self):
        assert TinyGenerator.model_validate({"width": 3}) == TinyGenerator(width=3)

    @pytest.mark.parametrize(
        ("cls", "data", "message"),
        [
            (Generator, {"width": 3}, "must have a `name`"),
            (Generator, {"name": 3}, "must have a `name`"),
            (Generator, {}, "must have a `name`"),
            (Generator, "tinny", "unknown generator 'tinny'; did you mean 'tiny'? Known: "),
            (Generator, "{tinny}", "unknown generator '{tinny}'; did you mean"),
            (Generator, 3, "a name, or a table with a `name`"),
            (TinyGenerator, ["tiny"], "a name, or a table with a `name`"),
            (TinyGenerator, "mlp", "only 'tiny' is allowed here"),
            (TinyGenerator, {"name": "tiny", "width": 0}, "greater than or equal to 1"),
            (Generator, Noise(), "instance of Generator"),
        ],
    )
    def test_component_data_without_a_known_name_is_rejected(self, cls, data, message):
        with pytest.raises(ValidationError) as error:
            self.read(cls, data)
        assert message in error.value.errors()[0]["msg"]

    def test_component_name_needs_a_catalog(self):
        with pytest.raises(ValidationError, match="only with a catalog"):
            Generator.model_validate("tiny")


def test_components_of_a_kind_hold_others_of_the_kind():
    discriminators = testing.components(Discriminator, catalog())
    nested = find(discriminators, lambda drawn: drawn.name == "packed" and drawn.of.name == "packed")
    assert isinstance(nested.of.of, Discriminator)
