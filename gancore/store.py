"""stub"""

from dataclasses import dataclass
from pathlib import Path
from gancore.checkpoint import Checkpoint, kept, load
from gancore.errors import CheckpointError


@dataclass(frozen=True)
class Found:
    checkpoint: Checkpoint | None
    path: Path | None
    rejected: list[tuple[Path, str]]


def newest_sound(folder: Path) -> Found:
    rejected = []
    for path in reversed(kept(folder)):
        try:
            return Found(load(path), path, rejected)
        except CheckpointError as error:
            rejected.append((path, str(error)))
    return Found(None, None, rejected)
