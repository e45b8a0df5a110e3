"""Requirements: the third-party plugins that a run needs. They are recorded with it and required to open it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from shlex import quote
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from gancore.catalog.catalog import Catalog, Plugin, plugin_in_errors
from gancore.catalog.discovery import BUILT_IN, normalized
from gancore.component import Component
from gancore.config.run import RunConfig
from gancore.errors import CheckpointError, PluginError

# A checkpoint is untrusted input, and these values are printed on a terminal.
_Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f/\\]{1,200}$")]
_Component = Annotated[str, StringConstraints(pattern=r"^[a-z]+ [^\x00-\x1f\x7f/\\]{1,200}$")]
_Version = Annotated[str, StringConstraints(pattern=r"^[\w.+!-]{1,100}$")]
_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

_NOT_FOR_SAMPLING = {"metric", "extractor", "observer"}
"""Kinds that the generator can be built without."""


class Need(BaseModel):
    """Third-party plugin that a run uses: name, package and version, and the digest if it is a file.

    `components` has the kind and name of each component that the run uses, as in `loss mine`.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    plugin: _Name
    package: _Name
    version: _Version
    sha256: _Digest | None
    components: list[_Component]

    @property
    def for_sampling(self) -> bool:
        """Whether samples cannot be drawn without the plugin."""
        return any(component.split()[0] not in _NOT_FOR_SAMPLING for component in self.components)

    def __str__(self) -> str:
        if self.sha256:
            return f"plugin file {self.package} (SHA-256 {self.sha256})"
        return f"plugin {self.plugin} {self.version} of package {self.package}"

    @property
    def remedy(self) -> str:
        """How to get the plugin. COMMAND stands for the present one."""
        if self.sha256:
            return f"gancore --plugin {quote(self.package)} COMMAND"
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.package):
            return f"pip install {self.package}=={self.version}"
        return "install that package"

    def found_in(self, catalog: Catalog) -> Plugin | None:
        """Return the plugin, loaded or not. A file is found by its content, or else by its name."""
        if self.sha256:
            files = [plugin for plugin in catalog.plugins if plugin.sha256]
            same_content = [plugin for plugin in files if plugin.sha256 == self.sha256]
            return next(iter(same_content + [plugin for plugin in files if plugin.package == self.package]), None)
        key = (normalized(self.package), self.plugin, None)
        return next((p for p in catalog.plugins if (normalized(p.package), p.name, p.sha256) == key), None)

    def difference(self, plugin: Plugin) -> str | None:
        """Return how the plugin differs from the one that the run used; None if it does not."""
        if self.sha256:
            same = self.sha256 == plugin.sha256
            return None if same else f"{plugin.package} has other content: SHA-256 {plugin.sha256}"
        return None if self.version == plugin.version else f"{plugin.version} is installed"


def needs_of(run: RunConfig, catalog: Catalog) -> list[dict[str, Any]]:  # Any: JSON
    """Return the third-party plugins that a run needs, as plain data."""
    needs: dict[int, dict[str, Any]] = {}  # Any: as above
    for component in run.components():
        plugin = catalog.origin_of(type(component))
        if plugin.package != BUILT_IN:
            need: dict[str, Any] = {"plugin": plugin.name, "package": plugin.package, "version": plugin.version}
            need = needs.setdefault(id(plugin), {**need, "sha256": plugin.sha256, "components": []})
            if (name := f"{component.kind} {component.name}") not in need["components"]:
                need["components"].append(name)
    return list(needs.values())


def catalog_for(
    made_with: Mapping[str, Any], catalog: Catalog, what: str, *, sampling_only: bool = False
) -> tuple[Catalog, tuple[str, ...]]:
    """Return a catalog limited to the built-ins and the plugins that `what` needs, and warnings about versions.

    With `sampling_only`, plugins that only provide metrics, extractors or observers may be missing. Raises PluginError
    for another plugin that is missing; CheckpointError if `made_with` is damaged. Nothing is imported.
    """
    if "needs" not in made_with:
        return catalog, ()
    try:
        needs = TypeAdapter(list[Need]).validate_python(made_with["needs"])
    except ValidationError as error:
        raise CheckpointError(f"{what} has a damaged list of plugins: {error.errors()[0]['msg']}") from error
    plugins, warnings = [plugin for plugin in catalog.plugins if plugin.package == BUILT_IN], []
    for need in needs:
        plugin = need.found_in(catalog)
        if (plugin is None or plugin.not_loaded) and sampling_only and not need.for_sampling:
            continue
        if plugin is None:
            where = "given; give the file if you trust it" if need.sha256 else "installed"
            raise PluginError(f"{what} needs {need}, which is not {where}", need.remedy)
        if plugin.not_loaded:
            raise PluginError(f"{what} needs {need}: {plugin.not_loaded}", "gancore plugins list") from plugin.cause
        plugins.append(plugin)
        if difference := need.difference(plugin):
            warnings.append(f"{what} was made with {need}, and {difference}")
    return Catalog(plugins), tuple(warnings)


def attributed(run: RunConfig, catalog: Catalog) -> AbstractContextManager[None]:
    """Add the plugin to the message of a PluginError in the block, if a third-party component of the run caused it."""
    components: list[tuple[str, Component]] = []
    for component in (run.generator, run.discriminator, run.loss, run.dataset):
        components += [(component.kind, component), (f"{component.kind} {component.name!r}", component)]
    for table in (run.regularizers, run.augmentations, run.named_metrics()):
        components += [(f"{component.kind} {name!r}", component) for name, component in table.items()]
    extractors = [metric.extractor for metric in run.metrics.values() if metric.extractor]
    components += [(f"extractor {extractor.name!r}", extractor) for extractor in extractors]
    return plugin_in_errors(catalog, {part: type(component) for part, component in components})
