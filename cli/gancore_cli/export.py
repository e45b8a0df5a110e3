"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import (
    OutPath,
    Terminal,
    best,
    check_weights,
    echo,
    ema,
    output_options,
    raw,
    run_or_checkpoint,
)

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog
    from gancore.exporters import Exporter, Facts


@click.command()
@run_or_checkpoint
@click.option(
    "--format",
    "name",
    metavar="FORMAT",
    show_default="by the end of --out",
    help="The exporter to use: a name that `gancore list exporter` shows, such as onnx or pt2.",
    shell_complete=completers.components("exporter"),
)
@click.option(
    "--out",
    type=OutPath(path_type=Path),
    metavar="PATH",
    show_default="the name of the run with the end of the format, in this folder",
    help="Where to write it: a path that does not exist yet. A folder may exist if it is empty.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set an option of the format: `gancore show exporter FORMAT` lists them.",
    shell_complete=completers.exporter_settings,
)
@raw
@ema
@best
@click.option(
    "--push",
    "repository",
    metavar="USER/NAME",
    help="Then upload the folder of --format hub to this repository of the Hugging Face Hub, which is made if it "
    "is absent.",
)
@click.option("--private", is_flag=True, help="Let the repository of --push be private.")
@output_options
def export(
    terminal: Terminal,
    run: Path,
    name: str | None,
    out: Path | None,
    assignments: tuple[str, ...],
    raw: bool,
    ema: float | None,
    best: bool,
    repository: str | None,
    private: bool,
) -> None:
    """Write a generator for torch, ONNX, or the Hugging Face Hub.

    Programs of torch and ONNX work without gancore; the folder for the hub is read by gancore.load.
    Loads CHECKPOINT, or the newest valid one of RUN. A program is compared with the generator before it is kept.

    \b
    Examples:
      gancore export runs/0001 --format onnx
      gancore export runs/0001 --out generator.pt2
      gancore export runs/0001 --format hub --push USER/NAME
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.config.requirements import attributed
    from gancore.errors import blame
    from gancore.sampling.export import check_target
    from gancore.sampling.export import export as write
    from gancore.sampling.hub import check_pushable, push
    from gancore.sampling.load import load

    check_weights(raw=raw, ema=ema)
    if private and not repository:
        raise click.UsageError("--private needs --push")
    catalog = open_catalog(terminal)
    if repository:
        check_pushable(repository)
    name = name or ("hub" if repository else _format_of(out, catalog))
    exporter = _exporter(name, assignments, catalog, repository)
    with blame(f"exporter {exporter.name!r}", "in check()"):
        exporter.check()
    out = out or _default_out(run, exporter)
    check_target(exporter, out)
    trained = load(run, raw=raw, best=best, ema=ema, device="cpu", catalog=catalog)
    warn(terminal, catalog, *trained.warnings)
    with attributed(trained.config, catalog):
        exported = write(trained, exporter, out)
    pushed = push(out, repository, private=private) if repository else None
    files = [path for path in (out.rglob("*") if out.is_dir() else [out]) if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    document = {
        "out": str(out),
        "format": exporter.name,
        "step": trained.step,
        "averaged": trained.averaged,
        "half_life_kimg": trained.half_life_kimg,
        "bytes": size,
        "facts": dict(exported.facts),
        "pushed": pushed and {"address": pushed.address, "revision": pushed.revision},
    }
    on_hub = {} if pushed is None else {"pushed": f"{pushed.address}, commit {pushed.revision}"}
    facts = {**exported.facts, **on_hub}
    terminal.result(document, lambda: _print(facts, f"step {trained.step:,} as {exporter.name}", out, size))


def _print(facts: Facts, what: str, out: Path, size: int) -> None:
    """Print where the export is, then its facts."""
    from gancore.utils.text import file_size

    echo(f"{what}: {out} ({file_size(size)})")
    for name, fact in facts.items():
        echo(f"{name.replace('_', ' ')}: {f'{fact:.2g}' if isinstance(fact, float) else fact}")


def _format_of(out: Path | None, catalog: Catalog) -> str:
    """Return the name of the exporter whose files end like `out`. Raises ConfigError unless there is one."""
    from gancore.errors import ConfigError
    from gancore.exporters import Exporter
    from gancore.utils.paths import shell_quote

    known = catalog.offers(Exporter)  # type: ignore[type-abstract]  # offers are concrete
    offers = {catalog.name_of(exporter): exporter.suffix for exporter, _ in known}
    suffix = out.suffix.lower() if out else ""
    names = [name for name, end in offers.items() if end == suffix] if suffix else []
    if len(names) != 1:
        received = f"the end of {out} says none" if out and not names else "several write such files" if out else ""
        raise ConfigError(
            f"name a format: {', '.join(names or offers)}{f'; {received}' if received else ''}",
            f"gancore export RUN --format {shell_quote(next(iter(names or offers), 'NAME'))}",
        )
    return names[0]


def _exporter(name: str, assignments: tuple[str, ...], catalog: Catalog, repository: str | None) -> Exporter:
    """Return an exporter with the options that `--set` and `--push` give.

    Raises ConfigError for an unknown name or option, UsageError for a repository that the exporter takes none for.
    """
    from gancore.config.find import read_component
    from gancore.config.layers import ConfigLayer, assignment, merge
    from gancore.exporters import Exporter

    merged = merge([ConfigLayer("--format", {"name": name}), *map(assignment, assignments)])[0]
    kind: type[Exporter] = Exporter  # type: ignore[type-abstract]  # only validated against
    exporter = read_component(kind, merged, catalog)
    if repository:
        if "repository" not in type(exporter).model_fields:
            raise click.UsageError(f"--push is for --format hub; received {name}")
        exporter = read_component(kind, {**merged, "repository": repository}, catalog)
    return exporter


def _default_out(run: Path, exporter: Exporter) -> Path:
    """Return the name of the run, in the current folder, with the end of the format; a folder is named after both."""
    named = run.absolute()
    if named.is_file():
        in_run = named.parent.name == "checkpoints"
        stem = f"{named.parent.parent.name}-{named.stem}" if in_run else named.stem
    else:
        stem = named.resolve().name
    return Path(f"{stem}{exporter.suffix}" if exporter.suffix else f"{stem}-{exporter.name}")
