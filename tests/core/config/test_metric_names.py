import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.catalog.catalog import Catalog, Plugin
from gancore.config.layers import ConfigLayer, assignment
from gancore.config.metric_names import find_metric, name_of
from gancore.config.run import resolve
from gancore.errors import ConfigError, PluginError
from gancore.metrics import Metric
from gancore_plugins.extractors.classifier import ClassifierExtractor
from gancore_plugins.extractors.random import RandomExtractor
from gancore_plugins.metrics.classes import ClassDivergence
from gancore_plugins.metrics.frechet import FrechetDistance
from gancore_plugins.metrics.modes import Modes
from helpers.strategies import components
from helpers.tiny_components import PARTS, catalog


def run(*layers):
    return resolve([ConfigLayer("test", layer) for layer in (PARTS, *layers)], catalog())


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("fd-classifier", FrechetDistance(extractor=ClassifierExtractor())),
        ("fd-random", FrechetDistance(extractor=RandomExtractor())),
        ("class-kl-classifier", ClassDivergence(extractor=ClassifierExtractor())),
        ("modes", Modes()),
        ("modes-classifier", Modes(extractor=ClassifierExtractor())),
    ],
)
def test_metric_name_has_metric_and_extractor(name, metric):
    assert find_metric(name, catalog()) == metric
    assert name_of(name, metric) == name


def test_metric_name_is_found_despite_a_broken_plugin():
    broken = Plugin("storm", "weather", "1.0", error="ImportError: no wind")
    known = Catalog([*catalog().plugins, broken])
    assert find_metric("fd-random", known) == FrechetDistance(extractor=RandomExtractor())
    layers = [ConfigLayer("test", PARTS | {"metrics": {"fd-random": {}, "class-kl": {"extractor": "classifier"}}})]
    assert list(resolve(layers, known).named_metrics()) == ["fd-random", "class-kl-classifier"]
    for name in ("fd-gusts", "gusts-random"):
        with pytest.raises(PluginError, match=r"unknown \w+ 'gusts'.* Not loaded: plugin 'storm'"):
            find_metric(name, known)


def test_metric_may_be_an_inline_table():
    found = find_metric('{name = "fd", extractor = {name = "classifier", epochs = 20}}', catalog())
    assert found == FrechetDistance(extractor=ClassifierExtractor(epochs=20))
    with pytest.raises(ConfigError, match="unknown metric 'fid'"):
        find_metric("{name = 'fid'}", catalog())
    with pytest.raises(ConfigError, match="unknown metric"):
        find_metric("{name = ", catalog())


@given(components(Metric))
def test_metric_is_found_by_its_name_in_results(metric):
    found = find_metric(name_of(metric.name, metric), catalog())
    assert type(found) is type(metric)
    assert type(found.extractor) is type(metric.extractor)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fid-classifier", ["unknown metric 'fid'", "did you mean 'fd'"]),
        ("fd-clasifier", ["unknown extractor 'clasifier'", "did you mean 'classifier'"]),
        ("class-kl-clasifier", ["unknown extractor 'clasifier'"]),
        ("nonsense", ["unknown metric 'nonsense'", "class-kl"]),
        ("fd", ["fd: needs an extractor"]),
        ("", ["unknown metric"]),
    ],
)
def test_metric_name_that_is_unknown_gets_a_suggestion(name, words):
    with pytest.raises(ConfigError) as caught:
        find_metric(name, catalog())
    assert all(word in caught.value.message for word in words), caught.value.message


@pytest.mark.parametrize(
    "table",
    [
        {"fd": {"extractor": "random"}},
        {"fd-random": {}},
        {"fd-random": {"extractor": {"seed": 0}}},
        {"fd": "random"},
        {"late": {"name": "fd", "extractor": "random"}},
        {"fd": {"name": "fd", "extractor": {"name": "random", "seed": 0}}},
    ],
)
def test_metric_spellings_are_equivalent(table):
    (metric,) = run({"metrics": table}).metrics.values()
    assert metric == FrechetDistance(extractor=RandomExtractor())


def test_metric_results_are_named_by_label_and_extractor():
    tables = {
        "fd": {"extractor": "classifier"},
        "fd-random": {},
        "second": {"name": "fd", "extractor": {"name": "classifier", "seed": 1}},
        "modes": {},
    }
    assert list(run({"metrics": tables}).named_metrics()) == [
        "fd-classifier",
        "fd-random",
        "second-classifier",
        "modes",
    ]


def test_metrics_can_be_set_and_removed_on_the_command_line():
    assignments = [
        "metrics.fd.extractor=classifier",
        "metrics.fd.extractor.seed=3",
        "metrics.modes.name=modes",
        "metrics.modes=none",
    ]
    layers = [ConfigLayer("test", PARTS), *map(assignment, assignments)]
    assert resolve(layers, catalog()).metrics == {"fd": FrechetDistance(extractor=ClassifierExtractor(seed=3))}


def test_metric_given_as_its_extractor_accepts_extractor_fields():
    layers = [
        ConfigLayer("test", PARTS),
        assignment("metrics.fd=classifier"),
        assignment("metrics.fd.extractor.seed=3"),
    ]
    expected = {"fd": FrechetDistance(extractor=ClassifierExtractor(seed=3))}
    assert resolve(layers, catalog()).metrics == expected
    replayed = resolve([ConfigLayer("file", resolve(layers, catalog()).to_data(catalog()))], catalog())
    assert replayed.metrics == expected


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"metrics": {"fd": {}}}, "metrics.fd: needs an extractor"),
        ({"metrics": {"fd": {"extractor": "clasifier"}}}, "unknown extractor 'clasifier'; did you mean 'classifier'"),
        ({"metrics": {"fid-classifier": {}}}, "unknown metric 'fid'"),
        ({"metrics": {"kid-random": {"subsets": 0}}}, "metrics.kid-random.subsets: must be greater"),
        (
            {"metrics": {"fd": {"extractor": "random"}, "fd-random": {}}},
            "metrics: two tables have the name 'fd-random'",
        ),
        ({"metrics": 3}, "metrics: must be a table; received 3"),
        ({"metrics": {"step": {"name": "modes"}}}, "the label 'step' is a key of the log"),
        ({"metrics": {"diversity": {"name": "modes"}}}, "the label 'diversity' is a key of the log"),
        ({"metrics": {"fd": {"name": "kid", "extractor": "random"}}}, "the label 'fd' names another metric than 'kid'"),
        ({"metrics": {"fd-random": {"name": "kid", "extractor": "random"}}}, "names another metric than 'kid'"),
        ({"checkpoint": {"best": "fd-classifier"}}, "checkpoint.best: unknown metric of the run 'fd-classifier'"),
        ({"metrics": {"fd-random": {}}, "checkpoint": {"best": "fd-rand"}}, "did you mean 'fd-random'"),
        ({"evaluate": {"every_kimg": 0.0}}, "evaluate.every_kimg: must be greater than 0"),
        ({"evaluate": {"on_collapse": "pray"}}, "evaluate.on_collapse: "),
    ],
)
def test_metric_mistakes_are_reported_with_their_path(config, problem):
    with pytest.raises(ConfigError) as caught:
        run(config)
    assert problem in caught.value.message


def test_metrics_survive_the_resolved_config():
    bare = run()
    assert "metrics" not in bare.to_data(catalog())
    assert "metrics" not in bare.to_toml(catalog())
    rich = run({"metrics": {"fd-random": {}, "kid": {"extractor": {"name": "random", "seed": 4}, "subsets": 3}}})
    again = resolve([ConfigLayer("again", rich.to_data(catalog()))], catalog())
    assert again == rich
    assert hash(again) == hash(rich)


def test_metric_components_belong_to_the_run():
    kinds = [component.kind for component in run({"metrics": {"fd-random": {}}}).components()]
    assert kinds == ["generator", "discriminator", "loss", "dataset", "metric", "extractor"]


@given(st.text(alphabet="fd-kidgtsr", max_size=12))
def test_metric_search_survives_any_name(name):
    try:
        find_metric(name, catalog())
    except ConfigError as error:
        assert error.message  # noqa: PT017  # either is right
