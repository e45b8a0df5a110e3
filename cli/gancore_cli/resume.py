"""The command `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import Voice, data_dir, data_root, device, speaks
from gancore_cli.running import duration_of, evaluator_of, go_through, say_done, tell, totals

if TYPE_CHECKING:
    from gancore.catalog import Catalog
    from gancore.config import Run
    from gancore.rundir import RunDirectory


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@totals
@data_dir
@device
@speaks
def resume(
    voice: Voice,
    run: Path,
    data_dir: Path | None,
    device: str,
    **flags: Any,  # Any: the values of the options for the total
) -> None:
    """Go on with a run that was ended before its total.

    It goes on where its newest sound checkpoint is, and ends as if it had never been interrupted. A total counts from
    the very first step: a longer one extends a run.
    """
    from gancore.errors import CheckpointError
    from gancore.rundir import RunDirectory

    total = duration_of(flags)
    catalog = open_catalog(voice)
    directory = RunDirectory(run)
    if not directory.config.is_file():
        raise CheckpointError(f"there is no run in {run}", "name the folder of a run, like runs/0001")
    with directory.locked():
        go_on(voice, directory, catalog, data_root(data_dir), device, total=total[1] if total else None)


def go_on(
    voice: Voice,
    directory: RunDirectory,
    catalog: Catalog,
    root: Path,
    device: str,
    *,
    total: str | None = None,
    wanted: Run | None = None,
) -> None:
    """Goes on with a run whose folder is locked, to another total if one is given, or if the run that is wanted has it.

    Raises CheckpointError when another run is wanted.
    """
    from gancore.data import prepared
    from gancore.gan import GAN
    from gancore.provenance import attributed
    from gancore.resuming import check_wanted, find
    from gancore_cli.progress import show_preparation, show_progress

    found = find(directory, catalog, wanted.duration if wanted else total)
    if wanted:
        check_wanted(wanted, found, catalog)
    run, catalog = found.run, found.catalog
    with attributed(run, catalog):
        show_progress(voice, f"dataset {run.dataset.name} is made ready, once", prepared(run.dataset, root))
        gan = GAN.assemble(run, root, device)
        changes = found.restore(gan)
        warn(voice, catalog, *found.warnings, *changes)
        tell(voice, gan, run, catalog)
        recorded = found.recorded
        if gan.done() >= 1 and not (recorded and recorded.owed):
            what = f"it had reached its total of {run.duration} at step {found.step:,}; a longer one extends it"
            say_done(voice, directory, what, {})
            return
        voice.note(f"{directory.path} goes on from step {found.step:,}")
        found.forget(gan)
        directory.write_config(run, catalog)
        if evaluator := evaluator_of(gan, run, catalog, root):
            show_preparation(voice, evaluator.prepare())
        go_through(voice, gan, run, catalog, evaluator, directory, recorded)
