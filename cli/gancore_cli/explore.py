"""The command `explore`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog, warn
from gancore_cli.hints import with_plugins
from gancore_cli.options import PluginOptions, Terminal, data_dir, device, echo, output_options
from gancore_cli.signals import signal_was_expected


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN", shell_complete=completers.runs_and_checkpoints)
@click.option(
    "--port", type=click.IntRange(1, 65535), show_default="a free one", help="Port on 127.0.0.1 to listen on."
)
@click.option("--no-open", is_flag=True, help="Open no browser; only print the address.")
@data_dir
@device
@output_options
@click.pass_context
def explore(
    context: click.Context,
    terminal: Terminal,
    run: Path,
    port: int | None,
    no_open: bool,
    data_dir: Path | None,
    device: str,
) -> None:
    """Explore a trained generator in the browser.

    Opens a page with sliders for editing directions, seeds to pick from, classes or conditions, truncation and
    checkpoints. For each picture it shows the command and the lines of Python that draw the same pixels again.
    Favorites are saved in RUN/explore. The page is served on this machine only, until Ctrl-C, which ends the
    command with exit code 0.

    \b
    Examples:
      gancore explore runs/0001
      gancore explore runs/0001 --no-open --port 8000
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    import threading
    import webbrowser

    from gancore.errors import ConfigError, why_not_imported
    from gancore.explore.model import Explorer
    from gancore.explore.repeat import Invocation
    from gancore.utils.paths import data_root

    try:
        from gancore.explore.server import Server
    except ImportError as error:
        lacking = str(error.name).partition(".")[0]
        problem = f"explore needs starlette and uvicorn, and {lacking} {why_not_imported(error, lacking)}"
        raise ConfigError(problem, "pip install 'gancore[explore]'") from error

    catalog = open_catalog(terminal)
    plugins = context.find_object(PluginOptions) or PluginOptions()
    program = with_plugins("gancore sample", plugins).removesuffix(" sample")
    invocation = Invocation(run, None if device == "auto" else device, program, plugins.files)
    explorer = Explorer(invocation, catalog, data_root(data_dir))
    warn(terminal, catalog, *explorer.newest.warnings)
    with ExitStack() as stack:
        server = stack.enter_context(Server(explorer, port or 0))
        document = {"address": server.address, "run": str(run)}
        terminal.result(document, lambda: echo(server.address))
        terminal.note(f"exploring {run} at this address; Ctrl-C ends the explorer")
        if not no_open:
            page = stack.enter_context(_page_that_leads_to(server.address, run))
            threading.Thread(target=webbrowser.open, args=(page.absolute().as_uri(),), daemon=True).start()
        try:
            server.wait()
        except KeyboardInterrupt as interruption:
            if getattr(interruption, "signal", signal.SIGINT) != signal.SIGINT:
                raise
            signal_was_expected()
    terminal.note("the explorer has ended")


@contextmanager
def _page_that_leads_to(address: str, run: Path) -> Iterator[Path]:
    """Write a page that leads to the address and that only this user can read, and remove it after the block.

    All users of the machine see the arguments of a browser, which must not be the address: it holds the token. Browsers
    in a sandbox cannot read the folder of temporary files, so the page is in that of the run where this is possible.
    """
    folder = run if os.access(run, os.W_OK) else None
    with NamedTemporaryFile("w", prefix=".explore-", suffix=".html", dir=folder) as file:  # of mode 0600
        file.write(f'<!DOCTYPE html><title>Explore</title><meta http-equiv="refresh" content="0; url={address}">')
        file.flush()
        yield Path(file.name)
