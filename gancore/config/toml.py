"""Values as TOML on one line. `tomllib` reads the same values back."""

from __future__ import annotations

from collections.abc import Mapping

import tomli_w


def literal(value: object) -> str:
    """Return one value as TOML on one line. Raises TypeError for a value that TOML has no type for."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)} = {literal(item)}' for key, item in value.items())}}}"
    return tomli_w.dumps({"_": value}).removeprefix("_ = ").rstrip("\n")


def _key(key: str) -> str:
    return tomli_w.dumps({key: 0}).removesuffix(" = 0\n")
