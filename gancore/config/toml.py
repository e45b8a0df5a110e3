"""Writing TOML: the half that the standard library leaves out. `tomllib` reads back what stands here, exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADED = 2
"""Tables up to this depth get a [header]; deeper ones are written inline."""


def dumps(data: Mapping[str, object]) -> str:
    """A document of str, int, float, bool, lists and tables. Raises TypeError for any other value."""
    return "\n".join(_lines(data, ())).lstrip("\n") + "\n"


def _lines(table: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    headed = {key: value for key, value in table.items() if isinstance(value, Mapping) and len(path) < _HEADED}
    lines = [f"{_key(key)} = {literal(value)}" for key, value in table.items() if key not in headed]
    if path and (lines or not headed):
        lines = ["", f"[{'.'.join(map(_key, path))}]", *lines]
    for key, value in headed.items():
        lines += _lines(value, (*path, key))
    return lines


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else literal(key)


def literal(value: object) -> str:
    """One value, as it stands behind a key. Raises TypeError for what TOML has no place for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # JSON escapes what TOML does, but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)} = {literal(item)}' for key, item in value.items())}}}"
    raise TypeError(f"TOML has no place for {type(value).__name__}: {value!r}")
