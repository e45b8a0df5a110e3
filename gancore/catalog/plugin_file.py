"""A plugin that is one Python file. The bytes that are hashed are the bytes that run."""

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
class PluginFile(SourceLoader):
    """Python file that the user names as a plugin. It is read at once and runs in `load`.

    It is the loader of its module. It gives no modification time, so Python neither reads nor writes a bytecode cache.
    """

    path: Path
    content: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> PluginFile:
        """Read the file. Raises ConfigError if it cannot be read."""
        try:
            return cls(path, path.read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot read plugin file {path}: {error.strerror}", "check the path") from error

    @cached_property
    def sha256(self) -> str:
        """Digest of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    def load(self) -> ModuleType:
        """Run the file as a module and return it. It can import installed packages, but no files of its own folder."""
        name = f"gancore_plugin_file_{self.sha256[:16]}_{self.path.stem}"
        spec = ModuleSpec(name, self, origin=str(self.path))
        spec.has_location = True  # sets the module's `__file__`
        module = module_from_spec(spec)
        sys.modules[name] = module  # pydantic and dataclasses look up annotations there
        try:
            self.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    def get_filename(self, fullname: str) -> str:
        """Return the path of the module, for tracebacks."""
        return str(self.path)

    def get_data(self, path: str) -> bytes:
        """Return the bytes to run."""
        return self.content
