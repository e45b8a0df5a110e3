"""Where the parts of a run come from: recorded with the run, looked for when it is opened, named when one fails."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from gancore.catalog.catalog import Catalog, Plugin
from gancore.catalog.discovery import BUILT_IN, normalized
from gancore.component import Component
from gancore.config.run import RunConfig
from gancore.errors import CheckpointError, PluginError

# What stands in a checkpoint is a stranger's word, and it is shown.
_Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f/\\]{1,200}$")]
_Component = Annotated[str, StringConstraints(pattern=r"^[a-z]+ [^\x00-\x1f\x7f/\\]{1,200}$")]
_Version = Annotated[str, StringConstraints(pattern=r"^[\w.+!-]{1,100}$")]
_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

_WATCHING = {"metric", "extractor", "observer"}
"""Kinds that look at a run: its generator can be built without them."""


class Need(BaseModel):
    """A third party's plugin that a run uses: its name, package and version, or the digest of one that is a file.

    `components` has kind and name of what is used of it, as in `loss mine`.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    plugin: _Name
    package: _Name
    version: _Version
    sha256: _Digest | None
    components: list[_Component]

    @property
    def watches(self) -> bool:
        """Whether all that is used of the plugin looks at the run, and makes none of it."""
        return all(component.split()[0] in _WATCHING for component in self.components)

    def __str__(self) -> str:
        if self.sha256:
            return f"plugin file {self.package} (SHA-256 {self.sha256})"
        return f"plugin {self.plugin} {self.version} of package {self.package}"

    @property
    def remedy(self) -> str:
        """How to get it."""
        if self.sha256:
            return f"gancore --plugin {self.package} COMMAND, if you have the file and trust it"
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.package):
            return f"pip install {self.package}=={self.version}"
        return "install that package"

    def found_in(self, catalog: Catalog) -> Plugin | None:
        """The plugin that meets the need, loaded or not; of files the one with the same content, or else name."""
        if self.sha256:
            files = [plugin for plugin in catalog.plugins if plugin.sha256]
            same = [plugin for plugin in files if plugin.sha256 == self.sha256]
            return next(iter(same + [plugin for plugin in files if plugin.package == self.package]), None)
        package = normalized(self.package)
        named = [plugin for plugin in catalog.plugins if normalized(plugin.package) == package and not plugin.sha256]
        return next((plugin for plugin in named if plugin.name == self.plugin), None)

    def difference(self, plugin: Plugin) -> str | None:
        """How the plugin is another than the one that was used, if it is."""
        if self.sha256:
            same = self.sha256 == plugin.sha256
            return None if same else f"{plugin.package} has other content: SHA-256 {plugin.sha256}"
        return None if self.version == plugin.version else f"{plugin.version} is installed"


def needs_of(run: RunConfig, catalog: Catalog) -> list[dict[str, Any]]:  # Any: JSON
    """What a run needs of third parties, as plain data."""
    used: dict[int, tuple[Plugin, dict[str, None]]] = {}
    for component in run.components():
        plugin = catalog.origin_of(type(component))
        if plugin.package != BUILT_IN:
            _, names = used.setdefault(id(plugin), (plugin, {}))
            names[f"{component.kind} {component.name}"] = None
    return [
        {
            "plugin": plugin.name,
            "package": plugin.package,
            "version": plugin.version,
            "sha256": plugin.sha256,
            "components": list(names),
        }
        for plugin, names in used.values()
    ]


def meet(
    made_with: Mapping[str, Any], catalog: Catalog, what: str, *, watched: bool = True
) -> tuple[Catalog, tuple[str, ...]]:
    """The built-ins and the plugins that `what` was made with, so that no other has a say in it; and warnings.

    A plugin of another version is a warning. Raises PluginError for one that is missing, but for one that only watched
    where nothing is to be `watched`; CheckpointError when the needs cannot be read. Nothing is imported.
    """
    if "needs" not in made_with:
        return catalog, ()
    try:
        needs = TypeAdapter(list[Need]).validate_python(made_with["needs"])
    except ValidationError as error:
        raise CheckpointError(f"{what} does not say what it needs: {error.errors()[0]['msg']}") from error
    met, warnings = [plugin for plugin in catalog.plugins if plugin.package == BUILT_IN], []
    for need in needs:
        plugin = need.found_in(catalog)
        if plugin is None or plugin.absence:
            if need.watches and not watched:
                continue
            if plugin is None:
                raise PluginError(
                    f"{what} needs {need}, which is not {'given' if need.sha256 else 'installed'}", need.remedy
                )
            raise PluginError(f"{what} needs {need}: {plugin.absence}", "gancore plugins list") from plugin.cause
        met.append(plugin)
        if difference := need.difference(plugin):
            warnings.append(f"{what} was made with {need}, and {difference}")
    return catalog.only(met), tuple(warnings)


@contextmanager
def attributed(run: RunConfig, catalog: Catalog) -> Iterator[None]:
    """The failure of a third party's part in this block is told with the plugin that it is from."""
    try:
        yield
    except PluginError as error:
        component = _parts(run).get(error.part)
        plugin = catalog.origin_of(type(component)) if component else None
        if component and plugin and plugin.package != BUILT_IN:
            error.message = f"{plugin.introduced}, {component.kind} {component.name!r}: {error.message}"
        raise


def _parts(run: RunConfig) -> dict[str, Component]:
    """The parts of a run as errors name them."""
    parts: dict[str, Component] = {}
    for component in (run.generator, run.discriminator, run.loss, run.dataset):
        parts |= {component.kind: component, f"{component.kind} {component.name!r}": component}
    for table in (run.regularizers, run.augmentations, run.judges()):
        parts |= {f"{component.kind} {name!r}": component for name, component in table.items()}
    extractors = [metric.extractor for metric in run.metrics.values() if metric.extractor]
    parts |= {f"extractor {extractor.name!r}": extractor for extractor in extractors}
    return parts
