"""Messages for mistakes in a config: each is one problem, and the hint leads to the keys of the part."""

import pytest
from pydantic import BaseModel, Field, ValidationError

from gancore import Catalog
from gancore.config.layers import assignment
from gancore.config.messages import problem_messages
from gancore.config.run import resolve
from gancore.errors import ConfigError

CATALOG = Catalog.installed()
PARTS = assignment("generator=mlp"), *map(assignment, ("discriminator=mlp", "loss=bce", "dataset=digits"))


class Policy(BaseModel):
    names: tuple[int, ...] = Field(min_length=1)


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["blur"], "names.0: must be a valid integer"), ([], "names: must have at least 1 item")],
)
def test_list_of_wrong_items_is_not_called_too_short(names, expected):
    data = {"names": names}
    with pytest.raises(ValidationError) as failure:
        Policy.model_validate(data)
    (message,) = problem_messages(failure.value, data, {})
    assert message.startswith(expected)


@pytest.mark.parametrize(
    ("mistakes", "hint"),
    [
        (["augmentations.ada.policy=['blur']"], "gancore show augmentation ada"),
        (["regularizers.late={name = 'r1', gama = 1}"], "gancore show regularizer r1"),
        (["regularizers.r1.gama=1", "regularizers.lecam.gama=1"], "see the keys with: gancore show run"),
        (["regularizers.r3={}"], "gancore list regularizer"),
        (["regularizers.late.name=r3"], "gancore list regularizer"),
        (["regularizers=3"], "see the keys with: gancore show run"),
        (["regularizers.r1.gama=1", "sample=3"], "see the keys with: gancore show run"),
        (["augmentations.ada.targt=1", "obserers=3"], "see the keys with: gancore show run"),
        (["observers.jsonl.flush=1", "seeed=3"], "see the keys with: gancore show run"),
    ],
)
def test_hint_shows_the_keys_of_the_component_that_is_wrong(mistakes, hint):
    with pytest.raises(ConfigError) as failure:
        resolve([*PARTS, *map(assignment, mistakes)], CATALOG)
    assert failure.value.hint == hint


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("optimizer.lr=0.1", "It is a key of a table: optimizer.generator.lr or optimizer.discriminator.lr ["),
        ("half_life_kimg=3", "It is a key of a table: ema.half_life_kimg ["),
        ("generator.widths=3", "generator.widths: must be a list, such as [256, 512]; received 3"),
        ("metrics=3", "metrics: must be a table; received 3"),
    ],
)
def test_message_has_whole_paths_and_an_example_of_a_list(mistake, message):
    with pytest.raises(ConfigError) as caught:
        resolve([*PARTS, assignment(mistake)], CATALOG)
    assert message in str(caught.value)


def test_config_with_several_mistakes_has_each_as_a_problem():
    with pytest.raises(ConfigError) as caught:
        resolve([*PARTS, assignment("seed=-1"), assignment("latent.dmi=64")], CATALOG)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["(1) seed", "(2) latent.dmi"]
    assert str(caught.value) == f"wrong config: {'; '.join(caught.value.problems)}"
