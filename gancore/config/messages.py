"""What is wrong with a config, in the words of whoever writes one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gancore.config.layers import Keys, source_of

_PLAINLY = {
    r"^(Input|Tuple) should": "must",
    r" after validation": "",
    r"\ba valid tuple": "a list",
    r"\ba valid dictionary( or instance of \w+)?": "a table",
}
"""pydantic's words, and those of whoever writes a file."""


def sentence(
    loc: tuple[int | str, ...], message: str, received: object, data: Mapping[str, Any], sources: Mapping[Keys, str]
) -> str:
    """What pydantic found wrong with a value: its path, what must be, what was received, and who said it."""
    path: list[str] = []
    table: Any = data
    for part in loc:
        # pydantic puts tags of unions between the keys; those are no part of the file.
        if (isinstance(table, Mapping) and part in table) or (
            isinstance(table, list | tuple) and isinstance(part, int) and part < len(table)
        ):
            path.append(str(part))
            table = table[part]  # type: ignore[index]  # a key of a table, or an index of a list
    if message == "Field required":
        path.append(str(loc[-1]))
    text = message.removeprefix("Value error, ")
    for words, ours in _PLAINLY.items():
        text = re.sub(words, ours, text, count=1)
    if message == "Field required":
        text = "must be given, and is missing"
    elif not isinstance(received, Mapping) and not text.startswith("unknown"):
        text = f"{text}; received {list(received) if isinstance(received, tuple) else received!r}"
    source = source_of(tuple(path), sources)
    return f"{'.'.join(path) or 'run'}: {text}" + (f" [{source}]" if source else "")
