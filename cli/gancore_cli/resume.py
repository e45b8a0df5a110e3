"""The command `resume`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import Terminal, data_dir, data_root, device, output_options
from gancore_cli.running import among, duration_of, evaluator_of, go_along, go_through, say_done, tell, totals

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog
    from gancore.config.run import RunConfig
    from gancore.distributed.ranks import Ranks
    from gancore.run.directory import RunDirectory


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@totals
@data_dir
@device
@output_options
def resume(
    terminal: Terminal,
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
    from gancore.run.directory import RunDirectory

    total = duration_of(flags)
    directory = RunDirectory(run)
    with among(terminal, device) as (terminal, ranks), ExitStack() as ours:
        catalog = open_catalog(terminal)
        if ranks.is_main:
            if not directory.config.is_file():
                raise CheckpointError(f"there is no run in {run}", "name the folder of a run, like runs/0001")
            ours.enter_context(directory.locked())
        go_on(terminal, directory, catalog, data_root(data_dir), device, ranks, total=total[1] if total else None)


def go_on(
    terminal: Terminal,
    directory: RunDirectory,
    catalog: Catalog,
    root: Path,
    device: str,
    ranks: Ranks,
    *,
    total: str | None = None,
    wanted: RunConfig | None = None,
    init_from: Path | None = None,
) -> None:
    """Goes on with a run whose folder is locked, to another total if one is given, or if the run that is wanted has it.

    One that has no state yet takes its weights from `init_from` again.
    Of several ranks the first alone has the folder.
    Raises CheckpointError when another run is wanted.
    """
    from gancore.checkpoint.store import load, newest
    from gancore.config.requirements import attributed
    from gancore.data.build import prepare_dataset
    from gancore.run.resume import check_wanted, find, told_to_all
    from gancore.training.gan import GAN
    from gancore_cli.progress import show_preparation, show_progress

    found = find(directory, catalog, wanted.duration if wanted else total) if ranks.is_main else None
    if found and wanted:
        check_wanted(wanted, found, catalog)
    run, catalog = told_to_all(found, catalog, ranks)
    with attributed(run, catalog):
        show_progress(terminal, f"dataset {run.dataset.name} is made ready, once", prepare_dataset(run.dataset, root))
        gan = GAN.assemble(run, root, device, ranks)
        if found is None:
            if not ranks.broadcast(False):
                go_along(gan)
            return
        origin = load(newest(init_from)) if init_from and found.saved is None else None
        changes = found.restore(gan, origin)
        warn(terminal, catalog, *found.warnings, *changes)
        tell(terminal, gan, run, catalog)
        recorded = found.recorded
        if ranks.broadcast(gan.done() >= 1 and not (recorded and recorded.owed)):
            what = f"it had reached its total of {run.duration} at step {found.step:,}; a longer one extends it"
            say_done(terminal, directory, what, {})
            return
        terminal.note(f"{directory.path} goes on from step {found.step:,}")
        found.forget(gan)
        directory.write_config(run, catalog)
        if evaluator := evaluator_of(gan, run, catalog, root):
            show_preparation(terminal, evaluator.prepare())
        go_through(terminal, gan, run, catalog, evaluator, directory, recorded)
