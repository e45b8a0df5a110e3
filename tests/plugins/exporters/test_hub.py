import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, metadata_load
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from torch import nn
from torch.utils.data import TensorDataset

import gancore
from gancore.errors import ConfigError, DataError
from gancore.sampling.export import export, exported_generator
from gancore.sampling.load import load
from gancore_plugins.exporters.hub import HubFolder
from gancore_plugins.exporters.hub_card import Card, Evaluation, write_card
from helpers.model_folders import CASES, NAMES, untrained

METRIC = {
    "value": 0.5,
    "better": "lower",
    "real_data": 0.25,
    "ideal": None,
    "details": {},
    "counts": {"generated": 100, "reference": 90},
    "real_data_counts": {"stand_ins": 80, "reference": 70},
    "extractor": {"name": "random", "sha256": "ab" * 32, "accuracy": None},
    "reference": {"name": "digits", "split": "all", "held_out": False, "sha256": "cd" * 32},
    "seed": 3,
    "settings": {"name": "fd"},
}


def exported(tmp_path, evaluation=None, exporter=None, **options):
    """The folder of an exported generator, and what was said of it."""
    trained = untrained(tmp_path / "run" / "checkpoints" / "step-00000007.safetensors", **options)
    if evaluation is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "evaluation.json").write_text(json.dumps(evaluation))
    result = export(trained, exporter or HubFolder(), tmp_path / "model")
    return result.path, result.facts


def body(folder):
    """The card as HTML, as the hub shows it."""
    text = (folder / "README.md").read_text().partition("\n---\n")[2]
    return MarkdownIt("gfm-like", {"linkify": False}).render(text)


@given(st.sampled_from(CASES), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=15)
def test_hub_is_loaded_to_the_same_bits(case, averaged, seed):
    name, condition = case
    with tempfile.TemporaryDirectory() as place:
        trained = untrained(Path(place) / "x.safetensors", name, condition, averaged)
        read = load(export(trained, HubFolder(), Path(place) / "model").path, device="cpu")
        again = load(export(read, HubFolder(), Path(place) / "again").path, device="cpu")
        files = [(Path(place) / folder / "config.json").read_text() for folder in ("model", "again")]
    assert files[0] == files[1]
    conditions = torch.rand(3, *condition) if isinstance(condition, tuple) else None
    samples = trained.sample(3, seed, conditions=conditions)
    for other in (read, again):
        assert torch.equal(other.sample(3, seed, conditions=conditions), samples)
        assert (other.config, other.classes, other.step) == (trained.config, trained.classes, trained.step)


def test_hub_card_can_be_parsed_and_has_what_the_hub_reads(tmp_path):
    exporter = HubFolder(license="apache-2.0", repository="ann/digits")
    evaluation = {"step": 7, "metrics": {"fd-random": METRIC, "kid-random": METRIC | {"value": None}}, "warnings": []}
    folder, facts = exported(tmp_path, evaluation, exporter)
    head = metadata_load(folder / "README.md")
    assert head["library_name"] == "gancore"
    assert head["license"] == "apache-2.0"
    assert head["pipeline_tag"] == "unconditional-image-generation"
    assert {"gan", "gancore", "pytorch"} < set(head["tags"])
    assert head["metrics"] == ["fd-random", "kid-random"]
    (result,) = ModelCard.load(folder / "README.md").data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("fd-random", 0.5, "all")
    assert result.metric_args["real_data"] == 0.25
    assert result.metric_args["step"] == 7
    assert "gancore.load(&quot;hf://ann/digits&quot;)" in body(folder)
    assert "that of step 7 is in the card" in facts["evaluation"]
    assert "samples.png" in body(folder)
    assert (folder / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_hub_card_without_license_says_so(tmp_path):
    folder, facts = exported(tmp_path)
    assert "license" not in metadata_load(folder / "README.md")
    assert "No license is given" in body(folder)
    assert facts["license"].startswith("none")


@pytest.mark.parametrize(
    ("evaluation", "averaged", "said"),
    [
        (None, True, "none of this step"),
        ({"step": 6, "metrics": {"fd-random": METRIC}}, True, "none of this step"),
        ({"step": 7, "metrics": {"fd-random": METRIC}}, False, "left out of the card: it is of the average"),
        ({"step": 7, "metrics": {"fd-random": {"value": "\x1b"}}}, True, "evaluation.json is damaged"),
    ],
)
def test_hub_card_has_no_numbers_of_other_weights(tmp_path, evaluation, averaged, said):
    folder, facts = exported(tmp_path, evaluation, averaged=averaged, ema={})
    assert said in facts["evaluation"]
    assert "model-index" not in metadata_load(folder / "README.md")
    assert "were not measured" in body(folder)


def test_hub_card_of_a_conditional_generator_lists_its_classes_as_text(tmp_path):
    folder, _ = exported(tmp_path, condition=3)
    assert "pipeline_tag" not in metadata_load(folder / "README.md")
    shown = body(folder)
    assert "<td>a &quot;quoted&quot; | one ---</td>" in shown
    assert "<b>" not in shown
    assert "&lt;b&gt;two&lt;/b&gt;" in shown
    assert load(folder).classes == NAMES


@pytest.fixture(scope="module")
def conditional():
    return exported_generator(untrained(Path("x.safetensors"), condition=3))


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
@example("---", "---\n```")
@example("| a | b", "](x) ![y](z)")
@example("<script>", "`</td>")
@settings(max_examples=40)
def test_hub_card_holds_any_text_of_users(conditional, title, name):
    model, evaluation = conditional, Evaluation.model_validate({"metrics": {name: METRIC}})

    def written(name, title, evaluation):
        known = {**model.data_format, "classes": [name, "one", "two"]}
        write_card(Path(place), Card(replace(model, data_format=known), evaluation, None, title, None))
        return metadata_load(Path(place) / "README.md"), body(Path(place))

    with tempfile.TemporaryDirectory() as place:
        head, shown = written(name, title, evaluation)
        _, usual = written("name", "title", Evaluation.model_validate({"metrics": {"fd": METRIC}}))
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
    assert tags(shown) == tags(usual)


def tags(html):
    """The tags of a page, in their order."""
    return [part.split(">")[0] for part in html.split("<")[1:]]


def test_hub_folder_names_no_folders_and_no_observers(tmp_path):
    data = {"name": "paired", "path": "/home/mallory/photos", "inputs": "/srv/secret/edges", "size": 8}
    folder, _ = exported(tmp_path, dataset=data, condition=(1, 4, 4), observers={"tensorboard": {}})
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not any(word in content for word in (b"/home", b"mallory", b"/srv", b"secret", b"tensorboard"))
    assert load(folder, device="cpu").config.dataset.path == "photos"


def test_hub_refuses_a_generator_that_is_an_object(tmp_path):
    trained = untrained(tmp_path / "x.safetensors")
    config = {**exported_generator(trained).config, "generator": {"name": "object", "type": "x.Y"}}
    with pytest.raises(ConfigError, match="is a Python object"):
        HubFolder().export(replace(exported_generator(trained), config=config), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_hub_folder_is_loaded_without_the_objects_that_it_was_trained_with(tmp_path):
    data = TensorDataset(torch.randint(0, 256, (8, 1, 4, 4), dtype=torch.uint8), torch.zeros(8).long())
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    run = gancore.Run(
        generator={"name": "mlp", "widths": [8]},
        discriminator=discriminator,
        dataset=data,
        loss="bce",
        steps=1,
        set={"batch_size": 4},
        out=tmp_path / "run",
        device="cpu",
    )
    list(run.train())
    trained = run.load()
    folder = trained.export("hub", tmp_path / "model").path
    read = load(folder, device="cpu")
    assert torch.equal(read.sample(3), trained.sample(3))
    assert "trained with gancore on its author's own data" in body(folder)
    assert "the dataset object" not in body(folder)
    with pytest.raises(DataError, match=r"the dataset that .*model was trained with was a Python object") as caught:
        read.config.dataset.build(tmp_path)
    assert "--reference PATH" in caught.value.hint
    again = load(read.export("hub", tmp_path / "again").path, device="cpu")
    assert torch.equal(again.sample(3), trained.sample(3))
    with pytest.raises(ConfigError, match="needs Python objects that no file can rebuild"):
        load(tmp_path / "run")
