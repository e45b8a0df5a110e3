import os
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_documentation_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-b", "html", "-d", str(tmp_path / "trees")]
    result = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path / "html")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    pages = {page.stem for kind in ("md", "ipynb") for page in (ROOT / "docs").glob(f"*.{kind}")}
    assert pages <= {page.stem for page in (tmp_path / "html").glob("*.html")}


def build(source, out, *targets):
    """Build a distribution of each target with the build backend, which needs no network."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    command += [word for target in targets for word in ("-t", target)]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def content(wheel):
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the wheel, as bytes by name, and the sdist."""
    out = tmp_path_factory.mktemp("dist")
    build(ROOT, out, "wheel", "sdist")
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return content(wheel), sdist


def test_wheel_has_the_files_of_the_three_packages_and_nothing_else(built):
    packages = (ROOT / "gancore", ROOT / "plugins" / "gancore_plugins", ROOT / "cli" / "gancore_cli")
    expected = {
        path.relative_to(package.parent).as_posix()
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert expected >= {
        *(f"{package.name}/py.typed" for package in packages),
        "gancore/__init__.pyi",  # read when gancore is imported
        "gancore_plugins/recipes/digits.toml",
        "gancore_cli/templates/pyproject.toml.tmpl",
        "gancore_cli/templates/kinds/loss.py.tmpl",
    }
    wheel, _ = built
    about = {name.partition("/")[2] for name in wheel if ".dist-info/" in name}
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert {name for name in wheel if ".dist-info/" not in name} == expected


def test_wheel_works_outside_of_the_repository(built, tmp_path):
    for name, data in built[0].items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", "import gancore_cli.main as m; print(m.__file__); m.main(['recipes'])"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout
    assert "vanilla" in done.stdout


def test_sdist_builds_the_same_wheel(built, tmp_path):
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    build(folder, tmp_path / "dist", "wheel")
    (again,) = (tmp_path / "dist").iterdir()
    assert content(again) == wheel
