"""Runs that are conditional on vectors and on pictures: conditions of the dataset to pick from, and files of them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import gancore
from gancore.errors import DataError
from gancore.explore.model import Explorer
from gancore.explore.point import read_point
from gancore.explore.repeat import Invocation

PLUGIN = '''
import gancore, torch
from torch.utils.data import TensorDataset

class Gray(gancore.Dataset):
    """Images of one gray, with two numbers as the condition, or with their negatives."""

    name = "gray"
    pictures: bool = False

    def build(self, root):
        if not (root / "data").exists():
            raise gancore.DataError(f"there is no file {root / 'data'}")
        grays = torch.linspace(0, 255, 64).byte()
        images = grays.view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()
        return TensorDataset(images, 255 - images if self.pictures else torch.stack([grays, 255 - grays], 1) / 255)

@gancore.hookimpl
def gancore_datasets():
    return [Gray]
'''


@pytest.fixture(scope="module", params=[False, True], ids=["vectors", "pictures"])
def conditional(request, tmp_path_factory):
    """Return the folder of a run, and its catalog; the file of the dataset is in the folder above."""
    folder = tmp_path_factory.mktemp("conditions")
    (folder / "gray.py").write_text(PLUGIN)
    (folder / "data").touch()
    catalog = gancore.Catalog.installed(gancore.Choice(files=(folder / "gray.py",)))
    run = gancore.Run(
        generator="mlp",
        discriminator="mlp",
        loss="bce",
        dataset={"name": "gray", "pictures": request.param},
        steps=3,
        set={"training.conditional": True},
        data_dir=folder,
        out=folder / "run",
        device="cpu",
        catalog=catalog,
    )
    for _ in run.train():
        pass
    return folder / "run", catalog


def test_conditions_of_the_dataset_change_the_picture_and_are_kept_in_files(conditional):
    run, catalog = conditional
    explorer = Explorer(Invocation(run, "cpu"), catalog, run.parent)
    about = explorer.describe()
    assert (about["conditions"], about["problem"], len(about["labels"])) == (24, "", 24)
    points = [read_point(about["point"] | {"condition": number, "base": 7}) for number in range(24)]
    assert len({explorer.picture(point) for point in points}) > 1
    for point in points[:3]:
        explorer.write_files(point)
        command = explorer.repeat(point)["command"].split()
        conditions = torch.from_numpy(np.load(command[command.index("--condition") + 1]))
        trained = explorer.newest
        samples = trained.generate(trained.seed_latents([7]), conditions)
        with Image.open(io.BytesIO(explorer.picture(point))) as shown:
            assert np.array_equal(np.asarray(shown)[::16, ::16], samples[0, 0].numpy())
    with pytest.raises(DataError, match="there is no condition 24; there are 24"):
        explorer.picture(points[0].model_copy(update={"condition": 24}))


def test_pictures_of_conditions_are_shown_and_vectors_are_written_out(conditional):
    run, catalog = conditional
    explorer = Explorer(Invocation(run, "cpu"), catalog, run.parent)
    first = explorer.describe()["labels"][0]
    if first:
        assert sum(map(float, first.split(", "))) == pytest.approx(1, abs=0.01)
    else:
        assert explorer.conditions.picture(0).startswith(b"\x89PNG")
    with pytest.raises(DataError, match="there is no condition 24"):
        explorer.conditions.picture(24)


def test_conditions_of_a_dataset_that_is_gone_are_zeros_and_the_page_says_so(conditional, tmp_path):
    run, catalog = conditional
    explorer = Explorer(Invocation(run, "cpu"), catalog, tmp_path)
    about = explorer.describe()
    assert about["conditions"] == 1
    assert about["problem"].startswith("the conditions of the dataset cannot be read: ")
    assert "there is no file" in about["problem"]
    explorer.picture(read_point(about["point"]))


def test_condition_of_a_run_without_conditions_is_an_error(tmp_path):
    networks = {"name": "mlp", "widths": [4]}
    run = gancore.Run("digits", generator=networks, discriminator=networks, steps=1, out=tmp_path / "run", device="cpu")
    for _ in run.train():
        pass
    explorer = Explorer(Invocation(tmp_path / "run", "cpu"), gancore.Catalog.installed(), tmp_path)
    point = explorer.describe()["point"]
    assert explorer.picture(read_point(point)).startswith(b"\x89PNG")
    with pytest.raises(DataError, match="the run is not conditional; received condition 99999"):
        explorer.picture(read_point(point | {"condition": 99999}))
