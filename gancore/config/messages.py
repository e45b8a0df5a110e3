"""Messages about mistakes in a config, in the terms of the TOML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gancore.config.layers import Keys, source_of
from gancore.settings import IN_A_TABLE

_REPLACEMENTS = {
    r"^(Input|Tuple) should": "must",
    r" after validation": "",
    r"\ba valid tuple": "a list",
    r"\ba valid dictionary( or instance of \w+)?": "a table",
}
"""Patterns in the messages of pydantic and their replacements."""


def problem_messages(error: ValidationError, data: Mapping[str, Any], sources: Mapping[Keys, str]) -> list[str]:
    """Return a message for each error of pydantic: path, requirement, received value, and source.

    A list whose items are wrong is not called too short, as pydantic does, which counts only valid items.
    """
    lines = error.errors()
    wrong_items = {line["loc"][:-1] for line in lines}
    shown = [line for line in lines if line["type"] != "too_short" or line["loc"] not in wrong_items]
    return list(dict.fromkeys(_message(line, data, sources) for line in shown))


def _message(error: ErrorDetails, data: Mapping[str, Any], sources: Mapping[Keys, str]) -> str:
    path: list[str] = []
    table: Any = data
    for part in error["loc"]:
        # pydantic inserts tags of unions between the keys; they are not in the file.
        if (isinstance(table, Mapping) and part in table) or (
            isinstance(table, list | tuple) and isinstance(part, int) and part < len(table)
        ):
            path.append(str(part))
            table = table[part]  # type: ignore[index]  # a key of a table, or an index of a list
    received = error["input"]
    text = error["msg"].removeprefix("Value error, ")
    if text == "Field required":
        path.append(str(error["loc"][-1]))
        text = "is required"
    else:
        for pattern, replacement in _REPLACEMENTS.items():
            text = re.sub(pattern, replacement, text, count=1)
        if not isinstance(received, Mapping) and not text.startswith("unknown"):
            text = f"{text}; received {list(received) if isinstance(received, tuple) else received!r}"
    text, found, places = text.partition(IN_A_TABLE)
    text += found + " or ".join(".".join([*path[:-1], place]) for place in places.split(" or ") if found)
    source = source_of(tuple(path), sources)
    return f"{'.'.join(path) or 'run'}: {text}" + (f" [{source}]" if source else "")
