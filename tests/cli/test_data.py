import json

import numpy as np
import pytest
from PIL import Image

FORKED = True


@pytest.fixture
def pictures(gancore):
    """A folder of two classes: six different pictures of one, and two equal ones of the other."""
    folder = gancore.folder / "pictures"
    for number in range(8):
        name = "cat" if number < 6 else "dog"
        (folder / name).mkdir(parents=True, exist_ok=True)
        color = (20 * min(number, 6), 100, 50)
        Image.new("RGB", (20, 16), color).save(folder / name / f"{number}.png")
    return folder


def test_data_prints_what_was_understood_of_a_folder(gancore, pictures):
    done = gancore.works("data", "pictures", "--set", "classes=true", "--set", "dataset.size=8")
    lines = dict(line.split(":", 1) for line in done.stdout.splitlines() if not line.startswith("warning"))
    assert "8 of 3x8x8 (RGB), uint8 in 0..120; networks see -1..1" in lines["samples"]
    assert lines["classes"].strip() == "2: cat (6), dog (2)"
    assert lines["copies"].strip() == "1 exact copy of another sample"
    assert "warning: the dataset has only 8 samples" in done.stdout


def test_data_advises_an_augmentation_unless_train_would_choose_one(gancore, pictures):
    few = "warning: the dataset has only 8 samples, which a GAN can memorize: use more data"
    chosen = gancore.works("data", "pictures", "--set", "size=16").stdout.splitlines()
    assert any("would choose: recipe pictures" in line for line in chosen)
    assert few in chosen
    np.save(gancore.folder / "rows.npy", np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    rows = gancore.works("data", "rows.npy").stdout.splitlines()
    assert f"{few}, or an augmentation (gancore list augmentation)" in rows


@pytest.mark.parametrize("skip", [False, True])
def test_data_says_once_that_pictures_cannot_be_read(gancore, pictures, skip):
    (pictures / "cat" / "0.png").write_bytes(b"")
    done = gancore.works("data", "pictures", "--set", "size=8", *["--set", "on_error=skip"] * skip)
    assert "skipped: 1 unreadable (empty)" in done.stdout
    warning = "warning: 1 unreadable, and training would stop: --set dataset.on_error=skip leaves it out"
    assert [line for line in done.stdout.splitlines() if "read" in line][1:] == [warning] * (not skip)


def test_data_writes_json_with_every_file_and_a_sheet(gancore, pictures):
    options = ["--set", "classes=true", "--set", "size=8"]
    done = gancore.works("data", pictures, *options, "--json", "--sheet", "sheet.png")
    document = json.loads(done.stdout)
    assert document["items"] == 8
    assert document["classes"] == [{"name": "cat", "count": 6}, {"name": "dog", "count": 2}]
    assert document["copies"] == [["dog/6.png", "dog/7.png"]]
    assert document["imbalance"] == 3
    assert document["measured_range"] == [0, 120]
    names = [name for names in document["used"].values() for name in names]
    assert sorted(names) == [f"{'cat' if number < 6 else 'dog'}/{number}.png" for number in range(8)]
    with Image.open(gancore.folder / "sheet.png") as sheet:
        colors = {tuple(color) for color in np.asarray(sheet.convert("RGB")).reshape(-1, 3)}
    assert {(20 * number, 100, 50) for number in range(7)} <= colors


def test_data_reads_a_dataset_by_name_and_is_quiet_with_q(gancore):
    done = gancore.works("data", "digits", "--set", "split=train")
    assert "10: 0 (" in done.stdout
    assert "held out:" in done.stdout
    assert gancore.works("data", "digits", "-q").stdout == ""


def test_data_shows_a_table_that_lacks_values(gancore):
    (gancore.folder / "a.csv").write_text("a,b\n1,2\n,4\n5,6\n7,x\n")
    done = gancore.works("data", "a.csv", "--json")
    document = json.loads(done.stdout)
    assert document["items"] == 2
    skipped = {"unreadable as numbers": ["line 5, b: 'x'"], "missing values left out": ["line 3, a"]}
    assert document["skipped"] == skipped
    assert "--set dataset.on_error=skip" in document["warnings"][0]
    assert "--set dataset.missing=skip" in document["warnings"][1]
    assert json.loads(gancore.works("data", "a.csv", "--set", "missing=mean", "--json").stdout)["items"] == 3


def test_data_refuses_wrong_input_in_three_lines(gancore, pictures):
    assert "did you mean 'digits'" in gancore.fails(3, "data", "digit")
    assert "unknown key 'sise'" in gancore.fails(2, "data", "pictures", "--set", "sise=3")
    assert "must end in .png" in gancore.fails(2, "data", "pictures", "--sheet", "sheet.jpg")
    assert not (gancore.folder / "sheet.jpg").exists()


def test_run_draws_the_sheet_that_data_draws(gancore, pictures):
    """Training keeps the data in memory, `data` streams it; the batch and the seed of the run do not matter."""
    options = ["--set", "dataset.classes=true", "--set", "dataset.size=8"]
    networks = ["--generator", "mlp", "--discriminator", "mlp", "--loss", "bce", "--seed", 5]
    dataset = ["--dataset", "folder", "--set", f"dataset.path={pictures}", "--batch-size", 4, "--steps", 1]
    done = gancore.works("train", *networks, *dataset, *options, "--out", "run", "--json")
    gancore.works("data", pictures, *options, "--sheet", "sheet.png")
    assert (gancore.folder / "run/samples/real.png").read_bytes() == (gancore.folder / "sheet.png").read_bytes()
    assert "classes: 2: cat (6), dog (2)" in done.stderr
    document = json.loads(done.stdout)
    assert document["data"]["classes"] == [{"name": "cat", "count": 6}, {"name": "dog", "count": 2}]
    assert document["data"]["copies"] == 1
    manifest = json.loads((gancore.folder / "run/manifest.json").read_text())
    assert manifest["data"] == document["data"]
    assert str(gancore.folder) not in json.dumps(manifest)


def test_data_says_that_a_folder_has_the_name_of_a_dataset(gancore):
    (gancore.folder / "digits").mkdir()
    Image.new("RGB", (8, 8)).save(gancore.folder / "digits" / "a.png")
    done = gancore.works("data", "digits")
    assert "note: digits is the dataset; for the data of the same name: gancore data ./digits" in done.stderr
    assert "1,797 of 1x8x8" in done.stdout
    assert "1 of 3x" in gancore.works("data", "./digits").stdout
