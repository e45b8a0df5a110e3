"""A fast start and exit of the process: torch is imported without a GC, and its compiler on demand.

Checked with torch 2.15.0, whose behavior tests/cli/test_startup.py asserts.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from gancore_cli.limits import check_limits

F = TypeVar("F", bound=Callable[..., object])

_COMPILER = "torch._dynamo"


def begin() -> None:
    """Prepare the process for the import of torch. It may be called again."""
    if _COMPILER not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def imported() -> None:
    """Let garbage collection ignore from now on what has been imported. It may be called again."""
    gc.freeze()


def end() -> None:
    """Collect garbage, whose finalizers may write files, and spare the end of the process the search for more.

    Where torch's compiler was imported, triton would report every object that Python does not free as a leak.
    """
    gc.collect()
    if "triton" in sys.modules:
        gc.unfreeze()
    else:
        gc.freeze()


class _Finder(MetaPathFinder):
    """Checks the limits of the process before torch is imported, and speeds that up.

    The import of torch's compiler, which takes a second, is deferred until a part of it is needed. torch imports it
    for the first optimizer, only to say that optimizers are not to be compiled.
    """

    def __init__(self) -> None:
        self.is_needed = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec of torch, of the stand-in, and of modules that the compiler has imported meanwhile."""
        if fullname == "torch":
            return _torch(path)
        if fullname == _COMPILER and not self.is_needed:
            found = PathFinder.find_spec(fullname, path)
            return found and ModuleSpec(fullname, _StandInLoader(self, found.origin))
        if fullname.startswith(f"{_COMPILER}.") and fullname in sys.modules:
            # Python began to import it before the stand-in was asked for its path, and would import it twice.
            return ModuleSpec(fullname, _FoundLoader(sys.modules[fullname]))
        return None


def _torch(path: Sequence[str] | None) -> ModuleSpec | None:
    check_limits()
    found = PathFinder.find_spec("torch", path)
    if found and type(found.loader) is SourceFileLoader:
        found.loader = _TorchLoader("torch", found.loader.path)
    return found


class _TorchLoader(SourceFileLoader):
    """Imports torch without garbage collection: a sixth of the time, in which nothing becomes garbage."""

    def exec_module(self, module: ModuleType) -> None:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            super().exec_module(module)
        finally:
            if was_enabled:
                gc.enable()
        imported()


class _StandInLoader(Loader):
    def __init__(self, finder: _Finder, origin: str | None) -> None:
        self._finder, self._origin = finder, origin

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _CompilerStandIn(spec.name)
        vars(module).update(finder=self._finder, disabled=[], __file__=self._origin)
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


class _FoundLoader(Loader):
    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__spec__"] = self._spec  # Python has replaced it, unless the module protects its attributes


class _CompilerStandIn(ModuleType):
    """Does what torch asks of its compiler when nothing is compiled; any other attribute is that of the compiler."""

    finder: _Finder
    disabled: list[FunctionType]

    def graph_break(self, _msg: str = "") -> None:
        """Do nothing, as the compiler does outside of functions that it compiles."""

    def disable(self, fn: Any = None, recursive: bool = True, **options: Any) -> Any:  # Any: as the compiler has it
        """Return the function if torch's own decorator asks, which keeps it until there is a compiler."""
        if options == {"wrapping": False} and isinstance(fn, FunctionType):
            self.disabled.append(fn)
            return fn
        return self._load().disable(fn, recursive, **options)

    def __getattr__(self, name: str) -> Any:  # Any: an attribute of a module
        # Python asks for the path when it makes this module, and again when it imports a part of the compiler. Code
        # such as `inspect` asks all modules for other names like these.
        if name.startswith("__") and (name != "__path__" or _COMPILER not in sys.modules):
            raise AttributeError(f"module {_COMPILER!r} has no attribute {name!r}")
        return getattr(self._load(), name)

    def _load(self) -> Any:  # Any: a module
        """Return the compiler, which replaces this stand-in wherever it can be found."""
        if not self.finder.is_needed:
            self.finder.is_needed = True
            del sys.modules[_COMPILER]
            for function in self.disabled:  # torch asks again
                vars(function).pop("__dynamo_disable", None)
        import torch._dynamo  # noqa: F401  # this stand-in is still an attribute of torch while a part is imported

        return sys.modules[_COMPILER]
