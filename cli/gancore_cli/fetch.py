"""The command `fetch`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import Terminal, data_dir, echo, output_options

if TYPE_CHECKING:
    from gancore.evaluation.train_extractor import Preparation
    from gancore.metrics import Extractor


@click.command()
@click.argument("extractor", metavar="EXTRACTOR", shell_complete=completers.components("extractor"))
@data_dir
@output_options
def fetch(terminal: Terminal, extractor: str, data_dir: Path | None) -> None:
    """Download the weights that an extractor of metrics needs.

    Only files with the published SHA-256 are kept; a file that is there and intact is not downloaded again. A download
    that was interrupted continues where it ended.

    \b
    For fd-inception (FID), kid-inception and is-inception:
      gancore fetch inception
    To another folder of dataset files:
      gancore fetch inception --data-dir /data/gancore
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.contracts import Dataset
    from gancore.errors import ConfigError
    from gancore.metrics import Extractor
    from gancore.utils.paths import data_root

    root, catalog = data_root(data_dir), open_catalog(terminal)
    if extractor in {dataset.name for dataset, _ in catalog.offers(Dataset)}:  # type: ignore[type-abstract]  # as below
        raise ConfigError(
            f"{extractor} is a dataset, which is downloaded when it is first read", f"gancore data {quote(extractor)}"
        )
    kind = catalog.find(Extractor, extractor)  # type: ignore[type-abstract]  # what is found is concrete
    warn(terminal, catalog)
    fetching = _Fetching(kind(), root)
    terminal.display().prepare(fetching.progress())
    files = [{"path": str(path), "bytes": path.stat().st_size} for path in fetching.paths]
    document = {"extractor": kind.name, "files": files, "downloaded": fetching.downloaded}

    def text() -> None:
        for file in files:
            what = "downloaded" if fetching.downloaded else "there already, and intact"
            echo(f"{file['path']}: {file['bytes']:,} bytes, {what}")
        if not files:
            echo(f"extractor {kind.name} needs no files")

    terminal.result(document, text)


class _Fetching:
    """Fetches the files of an extractor, with its progress."""

    paths: Sequence[Path] = ()
    downloaded = False

    def __init__(self, extractor: Extractor, root: Path) -> None:
        self._extractor, self._root = extractor, root

    def progress(self) -> Iterator[Preparation]:
        from gancore.errors import blame
        from gancore.evaluation.train_extractor import Preparation

        def shares() -> Iterator[float]:
            self.paths = yield from self._extractor.fetch(self._root)

        with blame(f"extractor {self._extractor.name!r}", "in fetch()"):
            for done in shares():
                self.downloaded = True
                yield Preparation(f"downloading {self._extractor.name}", done)
