import shutil

import pytest

import gancore

OFTEN = {
    "checkpoint.keep": 20,
    "checkpoint.every_steps": 4,
    "sample.every_kimg": 0.3,
    "log.every_steps": 1,
    "evaluate.every_kimg": 0.3,
}
SMALL = {"generator.width": 4, "discriminator.width": 4, "evaluate.samples": 64, "metrics.kid-random.subsets": 3}


@pytest.fixture(scope="session", autouse=True)
def _coarse_maps():
    """Make pages with coarse maps of latents, of a tenth of the samples, here and in later tests of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gancore.report.latent_map._SIDES", (5, 4))
        yield


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The folder of a run with classes on the digits of scikit-learn."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    run = gancore.Run("conditional", dataset="digits", out=out, steps=12, device="cpu", set=OFTEN | SMALL)
    list(run.train())
    return out


@pytest.fixture(scope="session")
def page(digits, tmp_path_factory):
    """The page of that run."""
    return gancore.write_report(digits, tmp_path_factory.mktemp("pages") / "digits.html", device="cpu")


@pytest.fixture
def copied(digits, tmp_path):
    """A copy of the run, to damage."""
    return shutil.copytree(digits, tmp_path / "digits")
