"""One file as a plugin: the very bytes that were hashed are what runs."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field
from functools import cached_property
from importlib.abc import SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

from gancore.errors import ConfigError


@dataclass(frozen=True)
class PluginFile:
    """A file of Python that the user names as a plugin: read, and not run before `load`."""

    path: Path
    content: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> PluginFile:
        """The file as it is now. Raises ConfigError when it cannot be read."""
        try:
            return cls(path, path.read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot read plugin file {path}: {error.strerror}", "name a file of Python") from error

    @cached_property
    def sha256(self) -> str:
        """The digest of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    def load(self) -> ModuleType:
        """Runs the file as a module of its own. It finds installed packages, and no files beside it."""
        name = f"gancore_plugin_file_{self.sha256[:16]}_{self.path.stem}"
        loader = _Read(self)
        spec = ModuleSpec(name, loader, origin=str(self.path))
        spec.has_location = True  # the module gets its `__file__`
        module = module_from_spec(spec)
        sys.modules[name] = module  # where pydantic and dataclasses look for the names in annotations
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


class _Read(SourceLoader):
    """Loads what was read before; without the file's time there is no bytecode to keep or to trust."""

    def __init__(self, file: PluginFile) -> None:
        self._file = file

    def get_filename(self, fullname: str) -> str:
        return str(self._file.path)

    def get_data(self, path: str) -> bytes:
        return self._file.content
