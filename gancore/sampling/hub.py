"""Exported generators on the Hugging Face Hub: `hf://USER/NAME@REVISION` is downloaded, and a folder is pushed.

Only the description and the weights are downloaded, and nothing in them is executed. The package huggingface_hub, of
the extra `hub`, talks to the hub; it has the cache, the token, offline mode and the address of the hub (`HF_HOME`,
`HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shlex import quote

from gancore.errors import CheckpointError, ConfigError, GancoreError, StorageError
from gancore.sampling.model_folder import read_config
from gancore.utils.files import without_warnings
from gancore.utils.model_folder import CONFIG, LIBRARY, WEIGHTS

_START = re.compile("hf:(?:/{1,2}|$)")  # a path has lost one of the two, or both
_REPOSITORY = r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}"
_ADDRESS = re.compile(rf"({_REPOSITORY})(?:@([\w.-][\w./-]{{0,199}}))?", re.ASCII)
_COMMIT = re.compile("[0-9a-f]{40}")
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class Pushed:
    """A folder on the hub: the address of its page, and `revision`, the commit that can be pinned."""

    address: str
    revision: str


def is_address(path: Path | str) -> bool:
    """Return whether this is the address of a repository on the hub, not a path."""
    return _START.match(str(path)) is not None


def download(address: Path | str) -> Path:
    """Download a generator from `hf://USER/NAME` or `hf://USER/NAME@REVISION`, unless it is in the cache.

    Return the folder in the cache, which is that of one commit and named after it. A revision is a branch, a tag or a
    commit. Raises ConfigError without huggingface_hub, CheckpointError when there is no such generator, or when the hub
    does not give it.
    """
    rest = _START.sub("", str(address), count=1)
    named = _ADDRESS.fullmatch(rest)
    if named is None or not {"", ".", ".."}.isdisjoint((named[2] or "main").split("/")):
        raise CheckpointError(
            f"the address of a generator on the hub is hf://USER/NAME or hf://USER/NAME@REVISION; received hf://{rest}",
            "use the name that its page on the hub has",
        )
    repository, revision = named.groups()
    _check_installed(f"hf://{rest}")
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    with _explained(f"hf://{rest}"), _silently():
        in_cache = try_to_load_from_cache(repository, WEIGHTS, revision=revision)
        is_fixed = _COMMIT.fullmatch(revision or "") is not None and isinstance(in_cache, str)
        failure = None if is_fixed else _try_to_reach(repository, revision)
        only_cache = is_fixed or failure is not None
        try:
            found = hf_hub_download(repository, CONFIG, revision=revision, local_files_only=only_cache, **_library())
            config = Path(found)
            read_config(config)  # of a foreign repository nothing more is downloaded
            # Of the same commit, whatever is pushed meanwhile.
            commit = config.parent.name
            hf_hub_download(repository, WEIGHTS, revision=commit, local_files_only=only_cache, **_library())
        except LocalEntryNotFoundError as error:
            raise CheckpointError(
                f"hf://{rest} is not in the cache, and the hub cannot be reached: {_reason(failure or error)}",
                "connect to the network, and check that HF_HUB_OFFLINE is not set",
            ) from error
    return config.parent


def check_pushable(repository: str) -> None:
    """Raise ConfigError unless this is the name of a repository, and huggingface_hub is installed."""
    if re.fullmatch(_REPOSITORY, repository, re.ASCII) is None:
        raise ConfigError(
            f"the name of a repository on the hub is USER/NAME; received {repository}", "name it USER/NAME"
        )
    _check_installed("pushing to the hub")


def push(folder: Path, repository: str, *, private: bool = False) -> Pushed:
    """Upload all files of a folder to the repository `USER/NAME` in one commit. The repository is made if it is absent.

    With `private` it is made private; one that exists and is public is refused. Raises ConfigError as `check_pushable`
    does, StorageError when the hub does not take the files; the folder stays as it is.
    """
    check_pushable(repository)
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(**_library())
    files = sorted(path for path in folder.iterdir() if path.is_file())
    with _push_explained(folder, repository, private), _silently():
        api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise StorageError(
                f"{repository} exists on the hub and is public, so nothing was uploaded to it",
                "make it private on its page, or use another name",
            )
        message = f"Add a generator exported by {LIBRARY} {version(LIBRARY)}"
        # Not upload_folder(), which may make several commits.
        operations = [CommitOperationAdd(path.name, path) for path in files]
        commit = api.create_commit(repository, operations, commit_message=message)
    return Pushed(f"{api.endpoint}/{repository}", str(commit.oid))


def _library() -> dict[str, str]:
    return {"library_name": LIBRARY, "library_version": version(LIBRARY)}


def _check_installed(what: str) -> None:
    try:
        import huggingface_hub  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise ConfigError(
            f"{what} needs huggingface_hub, which is not installed", "pip install 'gancore[hub]'"
        ) from error


def _try_to_reach(repository: str, revision: str | None) -> Exception | None:
    """Return why the hub cannot be reached, at once: a download would try again for half a minute.

    Raises an error of the hub when it says that there is no such repository, revision or file.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repository, CONFIG, revision=revision), **_library())
    except Exception as error:  # also of the library that huggingface_hub uses for HTTP
        if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
            raise
        return error
    return None


@contextmanager
def _silently() -> Iterator[None]:
    """Show bars of progress only on a terminal, and no warnings that libraries give each other."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    with without_warnings():
        unchanged = are_progress_bars_disabled() or (sys.stderr is not None and sys.stderr.isatty())
        if not unchanged:
            disable_progress_bars()
        try:
            yield
        finally:
            if not unchanged:
                enable_progress_bars()


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Raise a CheckpointError that says what helps in place of an error of the hub."""
    from huggingface_hub import errors

    try:
        yield
    except GancoreError:
        raise
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{address} is open only to those whom its owner has let in",
            f"ask for access on its page, and {_LOG_IN}",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no {address}, or it is private", f"check the name; if it is private, {_LOG_IN}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{address} has no such revision", "name a branch, a tag or a commit") from error
    except errors.RemoteEntryNotFoundError as error:
        raise CheckpointError(
            f"{address} holds no generator of gancore: it has no {CONFIG} or no {WEIGHTS}",
            "name the repository of an exported generator",
        ) from error
    except Exception as error:  # of the disk, and of the library that huggingface_hub uses for HTTP
        raise CheckpointError(f"{address} cannot be downloaded: {_reason(error)}", "try again later") from error


@contextmanager
def _push_explained(folder: Path, repository: str, private: bool) -> Iterator[None]:
    """Raise a StorageError that says what helps, and that the folder is kept, in place of an error of the hub."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    again = f"hf upload {repository} {quote(str(folder))} .{' --private' if private else ''}"
    try:
        try:
            yield
        except HfHubHTTPError as error:
            refused = error.response.status_code in (401, 403)
            reason = "it wants a token that may write there" if refused else _reason(error)
            hint = f"{_LOG_IN}; then: {again}" if refused else f"try again: {again}"
            raise StorageError(f"the hub did not take {repository}: {reason}", hint) from error
        except LocalTokenNotFoundError as error:
            raise StorageError(f"the hub takes {repository} only with a token", f"{_LOG_IN}; then: {again}") from error
        except GancoreError:
            raise
        except Exception as error:  # of the disk, and of the library that huggingface_hub uses for HTTP
            raise StorageError(
                f"{repository} could not be pushed to the hub: {_reason(error)}", f"try again: {again}"
            ) from error
    except GancoreError as error:
        error.kept = f"the exported generator in {folder}"
        raise


def _reason(error: BaseException) -> str:
    """Return why a request failed, in one line. It names no headers, which hold the token."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"it answered {response.status_code} {response.reason_phrase}"
    text = " ".join(str(error).split())
    return ascii(text.split(". ")[0])[1:-1][:200] or type(error).__name__
