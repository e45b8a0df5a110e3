"""The file of a study: what is valid, and messages about what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import ConfigError
from gancore.study.definition import Distribution, read_study

COMPARED = {"base": "ring", "metric": "modes", "variants": {"hinge": {"loss": "hinge"}}}
SEARCHED = {"base": "ring", "metric": "modes", "space": {"latent": {"dim": {"integers": [2, 8]}}}}


def test_study_reads_the_file_of_the_documentation(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(
        'base = "mnist"\nbudget = "1 minutes"\nseeds = 10\nmetric = "fd-classifier"\n'
        '[variants.hinge]\nloss = "hinge"\n[variants.no-ema]\nema = "none"\n'
    )
    study = read_study(file)
    assert list(study.arms) == ["base", "hinge", "no-ema"]
    assert study.seed_list == tuple(range(10))
    assert not study.is_search


@given(
    st.fixed_dictionaries(
        {"seeds": st.integers(1, 9) | st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)},
        optional={
            "budget": st.sampled_from(["5 kimg", "1 minutes"]),
            "samples": st.integers(2, 999),
            "metrics": st.lists(st.sampled_from(["fd-random", "modes"]), max_size=2),
        },
    ),
    st.sampled_from([COMPARED, SEARCHED]),
)
def test_study_is_read_again_from_what_it_writes(tmp_path_factory, fields, below):
    study = read_study(below | fields)
    file = tmp_path_factory.mktemp("study") / "study.toml"
    file.write_text(study.to_toml())
    assert read_study(file) == study


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bsae": 1}, "did you mean 'base'"),
        ({"metric": "none"}, "metric: is required"),
        ({"budget": "5 apples"}, "budget: must be a positive number and one of epochs, steps, kimg, minutes"),
        ({"seeds": 0}, "seeds: must be a number from 1 to 100,000, or a list of different seeds from 0"),
        ({"seeds": 5_000_000_000}, "seeds: must be a number from 1 to 100,000"),
        ({"seeds": [1, 1]}, "seeds: must be a number from 1 to 100,000, or a list of different seeds from 0"),
        ({"baseline": "other"}, "baseline must be base or a variant; received 'other'"),
        ({"space": SEARCHED["space"]}, "must have either variants to compare, or a space to search"),
        ({"baseline": "hinge"}, "needs a variant besides the baseline"),
        ({"variants": {"best": {}}}, "be neither base nor best; received 'best'"),
        ({"variants": {"../a": {}}}, "letters, digits, dots and dashes"),
        ({"metric": "modes.reverse_kl"}, "needs better = 'lower' or 'higher' for modes.reverse_kl"),
        ({"trials": 3, "pruner": "MedianPruner"}, "trials and pruner have no effect without a space"),
        ({"trials": 50}, "trials has no effect without a space"),
        ({"better": "higher"}, "better is for a further number of a metric, such as modes.reverse_kl, not modes"),
        ({"checks": [50, 20]}, "checks: must be one or more rising percentages from 1 to 99; received [50, 20]"),
        ({"checks": []}, "checks: must be one or more rising percentages from 1 to 99; received []"),
        ({"metric": "{name = 'kid'}"}, "metric: must be the name of a metric; write its settings as a table"),
        ({"metrics": ["modes", "{name = 'kid'}"]}, "metrics: must be the name of a metric"),
    ],
)
def test_study_says_which_key_is_wrong(changes, message):
    with pytest.raises(ConfigError) as caught:
        read_study(COMPARED | changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (3, "space.latent.dim must be a distribution, such as {log = [0.01, 100]}; received 3"),
        ({"log": [0, 1]}, "must be above 0 for log"),
        ({"range": [2, 1]}, "must go from a lower to a higher number; received [2, 1]"),
        ({"log": [1, 2], "choice": [1]}, "must have one of log, range, integers, choice"),
        ({"choice": []}, "choice"),
        ({"integers": [1.5, 2]}, "integers"),
    ],
)
def test_space_says_which_distribution_is_wrong(distribution, message):
    with pytest.raises(ConfigError) as caught:
        read_study(SEARCHED | {"space": {"latent": {"dim": distribution}}})
    assert message in str(caught.value)


def test_space_has_dotted_keys_and_counts_combinations():
    study = read_study(
        SEARCHED | {"space": {"latent": {"dim": {"integers": [2, 5]}}, "loss": {"choice": ["hinge", "lsgan", "bce"]}}}
    )
    assert [key for key, _ in study.distributions()] == ["latent.dim", "loss"]
    assert study.combinations == 12
    endless = SEARCHED | {"space": {"optimizer": {"generator": {"lr": {"log": [1e-5, 1e-2]}}}}}
    assert read_study(endless).combinations is None


@given(st.lists(st.integers(0, 50), max_size=8, unique=True).filter(bool))
def test_search_seed_differs_from_those_that_are_reported(seeds):
    assert read_study(SEARCHED | {"seeds": seeds}).search_seed not in seeds


def test_baseline_of_a_variant_leaves_the_base_out():
    study = read_study(COMPARED | {"variants": {"a": {}, "b": {"seed": 1}}, "baseline": "b"})
    assert list(study.arms) == ["b", "a"]


def test_checks_have_no_effect_without_a_pruner():
    with pytest.raises(ConfigError, match="checks has no effect without a pruner"):
        read_study(SEARCHED | {"checks": [50]})


def test_base_next_to_the_file_is_found(tmp_path):
    (tmp_path / "base.toml").write_text('recipe = "ring"\n')
    file = tmp_path / "study.toml"
    file.write_text('base = "base.toml"\nmetric = "modes"\n[variants.hinge]\nloss = "hinge"\n')
    assert read_study(file).base == {"recipe": "ring"}
    (tmp_path / "base.toml").unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*base\.toml"):
        read_study(file)


def test_study_removes_a_key_by_none_in_python():
    study = read_study(
        {"base": {"recipe": "ring"}, "metric": "modes", "better": None, "variants": {"a": {"ema": None}}}
    )
    assert study.variants == {"a": {"ema": "none"}}
    assert 'ema = "none"' in study.to_toml()


def test_distribution_ends_are_valid_values_of_it():
    assert Distribution(log=(1.0, 2.0)).ends == (1.0, 2.0)
    assert Distribution(choice=("a", "b", "c")).ends == ("a", "b", "c")
    assert Distribution(range=(0.0, 1.0)).size is None
    assert Distribution(integers=(3, 7)).size == 5


def test_study_without_a_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*: No such file"):
        read_study(tmp_path / "study.toml")
    (tmp_path / "study.toml").write_text("base = ")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_study(tmp_path / "study.toml")
