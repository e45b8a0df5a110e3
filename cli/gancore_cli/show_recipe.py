"""The command `show recipe NAME`: a recipe, and the rules by which its values follow from the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gancore_cli.options import Terminal, echo, print_table

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog


def show_recipe(terminal: Terminal, catalog: Catalog, name: str) -> None:
    """Print a recipe as TOML, and its rules. Raise ConfigError for an unknown recipe, or a rule that does not exist."""
    import tomli_w

    from gancore.config.picture_rules import rules_for

    recipe = catalog.recipe(name)
    (plugin,) = (plugin for offered, plugin in catalog.recipes() if offered is recipe)
    pairs = rules_for(recipe.rules)
    rules = [
        {"keys": [key for other, key in pairs if other is rule], "rule": _plain(rule.text), "reason": rule.reason}
        for rule in dict.fromkeys(rule for rule, _ in pairs)
    ]
    document = {
        "name": recipe.name,
        "package": plugin.package,
        "version": plugin.version,
        "summary": recipe.summary,
        "config": recipe.data,
        "rules": rules,
    }

    def text() -> None:
        echo(_plain(recipe.summary))
        echo(f"recipe {recipe.name}, from {plugin.package} {plugin.version}\n")
        echo(tomli_w.dumps(recipe.data).rstrip())
        if rules:
            echo("\nThese values follow from the data and the machine, unless you set them; see train --dry-run.\n")
            print_table(["key", "value", "reason"], [["\n".join(r["keys"]), r["rule"], r["reason"]] for r in rules])

    terminal.result(document, text)


def _plain(text: str) -> str:
    """Return text of a page as a terminal shows it."""
    return text.replace("`", "")
