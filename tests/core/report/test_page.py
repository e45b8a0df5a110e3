import json
import re
import shutil

import pytest
import torch
from PIL import Image

import gancore
from gancore.catalog.catalog import Catalog, read_plugin
from gancore.errors import CheckpointError, ConfigError, StorageError
from gancore.hookspecs import hookimpl
from helpers.html_pages import problems_of
from helpers.run_folders import evaluation_line, run_folder, score
from helpers.small_runs import recorded
from helpers.tiny_components import Conditional, TinyGenerator, catalog

ATTACK = "</script></style><b>'\"&<img src=x onerror=alert(1)>"


def text_of(runs, out, **more):
    return gancore.write_report(runs, out, device="cpu", **more).read_text()


def test_page_of_a_run_is_valid_small_and_complete(page):
    text = page.read_text()
    assert problems_of(text) == []
    assert len(text) < 1_000_000
    for words in ("Samples and real data", "kid-random", "real data", "best", "Losses", "Logits", "Images per second"):
        assert words in text
    for words in ("Explore the latents", "Classes", "Did it copy?", "What differs from recipe", "gancore resume"):
        assert words in text
    for words in ("The number at the top includes that time.", '<figure class="zoom">', "Train it for longer"):
        assert words in text
    assert re.search(
        r"images are usually [\d.]+ from their nearest other one\.\s+A copy would be closer than [\d.]+; ", text
    )
    assert re.search(r"<code>gancore resume [^<]* --(epochs|steps|kimg) \d+</code>", text)
    assert text.count('class="absent"') == 0
    assert "cannot" not in text.split("<main")[1].split("<script")[0].replace("it cannot tell them apart", "")


@pytest.fixture(scope="module")
def several(digits, tmp_path_factory):
    """The text of a page of runs: `one`, the same under an equal name, another seed, measured otherwise, and points."""
    folder = tmp_path_factory.mktemp("several")
    paths = {"one": digits, "same": shutil.copytree(digits, folder / digits.parent.name / "digits")}
    paths["seed"] = shutil.copytree(digits, folder / "seed")
    config = paths["seed"] / "config.toml"
    config.write_text(config.read_text().replace("seed = 0", "seed = 5", 1))
    paths["other"] = shutil.copytree(digits, folder / "other")
    manifest = paths["other"] / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"torch": "', '"torch": "0.'))
    paths["points"] = recorded(folder / "points", {"log": {"every_steps": 1}})[0].path
    return paths, text_of([*paths.values()], folder / "page.html", catalog=catalog())


def test_page_of_several_runs_compares_them(several):
    _, text = several
    assert problems_of(text) == []
    assert "What differs between the runs" in text
    assert "Loss of the generator" in text
    assert "Before you compare" in text
    assert "other versions of torch" in text
    assert "have the same config and seed 0" in text


def test_page_of_several_runs_has_medians_over_seeds(several):
    _, text = several
    assert "median of 4 seeds" in text
    assert "4 runs: " in text
    table = text.split('id="seeds"')[1].split("</section>")[0]
    assert re.findall('<th scope="col">(.*?)</th>', table) == ["kimg", "training", "kid-random"]


def test_page_of_runs_with_equal_names_tells_them_apart(several):
    paths, text = several
    for name in ("one", "same"):
        assert f"</span>{paths[name]}</h3>" in text


@pytest.mark.parametrize(("step", "state"), [(999_000, "99% of 1000000 steps"), (1_000_000, "done: 1000000 steps")])
def test_page_of_a_run_near_its_end_says_whether_it_is_done(tmp_path, step, state):
    run = run_folder(tmp_path / "run", [{"step": step, "kimg": 1.0}], {}, {"duration": "1000000 steps"})
    text = text_of(run, tmp_path / "page.html")
    assert f'<p class="state">recipe ring · {state}</p>' in text
    assert ("Train it for longer" in text) == state.startswith("done")


def test_page_of_a_run_without_a_log_has_the_metrics_that_were_measured(tmp_path):
    run = run_folder(tmp_path / "run", [])
    table = text_of(run, tmp_path / "page.html").split('id="metrics"')[1].split("</section>")[0]
    assert "<svg" not in table
    assert '<th scope="row">fd-classifier</th><td>7.1</td>' in table


def test_page_of_runs_over_seeds_says_how_many_have_a_value_where_not_all_do(tmp_path):
    values = (7.0, 6.0, None)
    runs = [
        run_folder(tmp_path / f"{seed}", [evaluation_line(200, value)], {"fd-classifier": score(value)}, {"seed": seed})
        for seed, value in enumerate(values)
    ]
    table = text_of(runs, tmp_path / "page.html").split('id="seeds"')[1].split("</section>")[0]
    assert "<td>20</td>" in table
    assert "<td>6.5 (6 to 7), 2 of 3</td>" in table


def test_page_of_many_runs_has_smaller_pictures_of_each(tmp_path, monkeypatch):
    monkeypatch.setattr("gancore.report.pictures._FRAMES_BYTES", 24_000)
    runs = [run_folder(tmp_path / f"{number}", [], {}, {"batch_size": number + 1}) for number in range(8)]
    for run in runs:
        (run / "samples").mkdir()
        Image.effect_noise((256, 256), 80).save(run / "samples/step-00000001.png")
    pages = [text_of(chosen, tmp_path / "page.html") for chosen in (runs[:1], runs)]
    alone, many = ([len(src) for src in re.findall(r'src="data:image/webp;base64,([^"]*)"', page)] for page in pages)
    assert (len(alone), len(many)) == (1, 8)
    assert max(many) <= 4 / 3 * 12_000 + 4 < alone[0] <= 4 / 3 * 24_000 + 4


@pytest.mark.parametrize("layers", [
    [{"dataset": {"name": "noise", "shape": [2]}}],
    [{"dataset": {"name": "noise", "shape": [7]}}],
    [{"dataset": {"name": "noise", "shape": [5, 4, 4]}}],
    [{"dataset": {"name": "noise", "shape": [3, 16]}}],
], ids=["points", "table", "channels", "series"])  # fmt: skip
def test_page_of_other_data_says_what_cannot_be_drawn(tmp_path, layers):
    run, _, _ = recorded(tmp_path / "run", *layers)
    text = text_of(run.path, tmp_path / "page.html", catalog=catalog())
    assert problems_of(text) == []
    assert ("is not a picture" in text) == (layers[0]["dataset"]["shape"] != [3, 16])


def test_page_shows_names_of_the_user_as_text(copied, tmp_path):
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest |= {"recipe": ATTACK, "device": ATTACK, "plugins": {ATTACK: ATTACK}, "data": {"dataset": ATTACK}}
    manifest["events"] = [{"step": 3, "kimg": 0.1, "kind": "nonfinite", "text": ATTACK}]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    line = {"step": 12, "kimg": 0.768, f"penalty.{ATTACK}": 1.0, "discriminator_loss": 1.0}
    measured = {"step": 12, "kimg": 0.768, ATTACK: 1.0, "x\x00\x1b\ufffe": 2.0}
    with (copied / "metrics.jsonl").open("a") as log:
        log.write(f"{json.dumps(line)}\n{json.dumps(measured)}\n")
    text = text_of([copied, shutil.copytree(copied, tmp_path / "<i>name&'")], tmp_path / "page.html")
    assert problems_of(text) == []
    assert "<b>'" not in text
    assert "<i>name" not in text
    assert "<img src=x" not in text
    assert text.count("<script") == 1


def test_page_of_damaged_parts_says_so_and_shows_the_rest(copied, tmp_path):
    for name in ("config.toml", "manifest.json", "evaluation.json"):
        (copied / name).write_text("{")
    for path in [*(copied / "samples").iterdir(), *(copied / "checkpoints").iterdir()]:
        path.write_bytes(path.read_bytes()[:100])
    text = text_of(copied, tmp_path / "page.html")
    assert problems_of(text) == []
    for words in ("config.toml is damaged", "manifest.json is damaged", "real.png cannot be shown", "Losses"):
        assert words in text
    assert text.count("there is no valid checkpoint") == 1


def test_page_of_a_run_that_has_just_begun_says_what_is_missing(copied, tmp_path):
    for name in ("samples", "checkpoints"):
        shutil.rmtree(copied / name)
    for name in ("evaluation.json", "metrics.jsonl"):
        (copied / name).unlink()
    text = text_of(copied, tmp_path / "page.html")
    assert problems_of(text) == []
    for words in (
        "There is no picture of samples yet",
        "there is no checkpoint in",
        "The log has no line yet",
        "Resume it",
    ):
        assert words in text


def test_page_of_a_run_in_training_says_how_old_its_samples_are(copied, tmp_path):
    for path in sorted((copied / "checkpoints").iterdir())[1:]:
        path.unlink()
    text = text_of(copied, tmp_path / "page.html", data_dir=tmp_path / "my data")
    for command in ("train", "resume", "evaluate", "report"):
        assert re.search(
            rf"<code>gancore {command} [^<]* --data-dir &#39;{tmp_path}/my data&#39;( --save)?</code>", text
        )
    assert "the newest checkpoint is from step 0, the log is at step 12" in text
    assert "Of 64 samples" not in text
    assert "its generator is not trained yet" in text


def test_page_of_a_run_whose_plugin_is_missing_has_no_map(tmp_path):
    run, _, _ = recorded(tmp_path / "run", {"log": {"every_steps": 1}})
    text = text_of(run.path, tmp_path / "page.html")
    assert problems_of(text) == []
    assert "Losses" in text
    assert "<canvas" not in text
    assert text.count("needs plugin worlds") == 1
    assert "There is no generator" in text.split('id="explore"')[1].split("</section>")[0]


class Crowded(TinyGenerator):
    """A generator that no device can hold once `CrowdedModule.full` is set."""

    name = "crowded"

    def build(self, spec):
        layers = super().build(spec)
        return CrowdedModule(layers.num_classes, *layers)


class CrowdedModule(Conditional):
    full = False

    def to(self, *args, **more):
        if self.full:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().to(*args, **more)


class Crowds:
    """Plugin with the generator above."""

    @staticmethod
    @hookimpl
    def gancore_generators():
        return [Crowded]


def test_page_of_a_generator_that_the_device_cannot_hold_says_so(tmp_path, monkeypatch):
    known = Catalog([*catalog().plugins, read_plugin(Crowds, "crowds", "gancore-crowds", "1.0")])
    run, _, _ = recorded(tmp_path / "run", {"generator": "crowded"}, known=known)
    monkeypatch.setattr(CrowdedModule, "full", True)
    text = text_of(run.path, tmp_path / "page.html", catalog=known)
    assert "the memory of the device ran out: CUDA out of memory" in text
    assert "There is no generator to draw samples with" in text


def test_page_of_own_pictures_that_were_moved_has_a_map_and_says_why_it_compares_nothing(tmp_path):
    for name in ("cats & dogs", ATTACK.replace("/", "|")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(8):
            Image.effect_noise((8, 8), 50 + number).save(tmp_path / "data" / name / f"{number}.png")
    small = {"generator.width": 4, "discriminator.width": 4, "evaluate.on_collapse": "ignore", "batch_size": 4}
    run = gancore.Run(
        "conditional",
        dataset={"name": "folder", "path": str(tmp_path / "data"), "classes": True},
        out=tmp_path / "run",
        steps=1,
        device="cpu",
        set=small,
    )
    list(run.train())
    shutil.rmtree(tmp_path / "data")
    manifest = tmp_path / "run/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"recipe": "pictures"}))
    text = text_of(tmp_path / "run", tmp_path / "page.html")
    assert problems_of(text) == []
    assert "The training data cannot be read: " in text
    assert '<tr><th scope="row">dataset.path</th><td>\N{EN DASH}</td>' in text
    assert '<tr><th scope="row">dataset.channels' not in text
    assert "cats &amp; dogs" in text
    assert "<canvas" in text
    assert "<b>" not in text.split('id="explore"')[1].split("</section>")[0]


def test_report_refuses_no_run_other_names_and_unwritable_targets(tmp_path):
    run = run_folder(tmp_path / "run")  # without a generator, so that a page takes little time
    with pytest.raises(ConfigError, match="at least one run"):
        gancore.write_report([])
    with pytest.raises(ConfigError, match=r"must end in \.html"):
        gancore.write_report(run, tmp_path / "page.png")
    with pytest.raises(CheckpointError, match="there is no run in"):
        gancore.write_report([run, tmp_path])
    before = sorted(tmp_path.iterdir())
    (tmp_path / "taken.html").mkdir()
    for target in ("none/page.html", "taken.html"):
        with pytest.raises(StorageError, match="cannot write"):
            gancore.write_report(run, tmp_path / target)
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "taken.html"])


def test_report_is_all_that_changes_in_the_folder_of_the_run(copied):
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    state = torch.get_rng_state()
    assert gancore.write_report(copied, device="cpu") == copied / "report.html"
    (copied / "report.html").unlink()
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before
    assert torch.equal(torch.get_rng_state(), state)
