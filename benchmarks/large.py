"""What a folder of very many pictures costs: to find them, to keep them as one array, and to stream them.

    OMP_NUM_THREADS=1 python -m benchmarks.large --images 1000000 --work DIR --out benchmarks/large.md

The pictures are hard links to a few small ones, in folders of a thousand that are classes, made below DIR before and
removed after. Memory is what the kernel says of the process: its own, without pages of files, and the most that was
resident, pages of the array included, which the kernel takes back when it wants them. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from time import perf_counter

import torch
from PIL import Image

from benchmarks.machine import commit, described
from gancore.data.feed import Feed, epoch_order
from gancore.utils.files import pictures_below
from gancore_plugins.datasets.folder import Folder
from gancore_plugins.datasets.pictures import PictureCache, PictureFormat

_IN_A_FOLDER = 1000
_LINKS = 50_000
"""Names of one file; ext4 allows 65,000."""
_EPOCHS = 20
_MB = 1 << 20


@dataclass(frozen=True)
class Stage:
    """Seconds of the clock, and bytes: what the process had of its own before and after, and the most resident."""

    what: str
    seconds: float
    before: int
    after: int
    peak: int


def main() -> None:
    arguments = parsed()
    stages, workers = measured(arguments.work, arguments.images, arguments.size, arguments.batches, arguments.workers)
    text = report(stages, workers, arguments)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, required=True, help="a folder with room for pictures and array")
    parser.add_argument("--size", type=int, default=16, help="height and width in the array, in pixels")
    parser.add_argument("--batches", type=int, default=500, help="of 64 images, that are streamed")
    parser.add_argument("--workers", type=int, default=2, help="processes that load data")
    parser.add_argument("--out", type=Path, help="the table; else it is printed alone")
    return parser.parse_args()


def measured(work: Path, images: int, size: int, batches: int, workers: int) -> tuple[list[Stage], list[int]]:
    """All stages, and the bytes that each loading process had of its own after the last batch."""
    folder, root = work / "pictures", work / "data"
    stages: list[Stage] = []
    try:
        link(folder, images)
        settings = Folder(path=str(folder), size=size, classes=True)
        with stage("find them", stages):
            found = pictures_below(folder)
        with stage("ask for their sizes and times", stages):
            form = PictureFormat(settings.size, settings.channels, settings.fit, settings.max_pixels)
            kept = PictureCache.in_folder(root / "folders", found, form)
        with stage("decode them into the array", stages):
            exhaust(kept.build())
        del found, kept
        with stage("open them again", stages):
            dataset = settings.build(root)
        with stage("the first batch", stages):
            feed = Feed(dataset, batch_size=64, seed=0, device=torch.device("cpu"), data="stream", workers=workers)
            stream = feed.batches(0)
            next(stream)
        with stage(f"{batches} batches more", stages):
            exhaust(islice(stream, batches))
        own = [told(f"{child.pid}/smaps_rollup", "Private_Dirty") for child in active_children()]
        del stream
        with stage(f"the orders of {_EPOCHS} epochs", stages):
            exhaust(epoch_order(0, epoch, images) for epoch in range(_EPOCHS))
        return stages, own
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def stage(what: str, stages: list[Stage]) -> Iterator[None]:
    """Adds what the block took."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the most that was resident so far is forgotten
    before, begun = told("self/status", "RssAnon"), perf_counter()
    yield
    seconds = perf_counter() - begun
    stages.append(Stage(what, seconds, before, told("self/status", "RssAnon"), told("self/status", "VmHWM")))


def exhaust(values: Iterable[object]) -> None:
    for _ in values:
        pass


def link(folder: Path, images: int) -> None:
    for number in range(images):
        place = folder / f"{number // _IN_A_FOLDER:06d}"
        if number % _IN_A_FOLDER == 0:
            place.mkdir(parents=True)
        path = place / f"{number:09d}.png"
        if number % _LINKS == 0:
            first = path
            Image.effect_noise((16, 16), 64).convert("RGB").save(first)
        else:
            os.link(first, path)


def told(file: str, key: str) -> int:
    """Bytes that the kernel tells of a process."""
    lines = Path("/proc", file).read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1]) * 1024


def report(stages: list[Stage], workers: list[int], arguments: argparse.Namespace) -> str:
    lines = [
        f"# {arguments.images:,} pictures",
        "",
        f"`python -m benchmarks.large --images {arguments.images} --size {arguments.size} --workers "
        f"{arguments.workers}`, with --work and --out, at commit {commit()}, with "
        f"OMP_NUM_THREADS={torch.get_num_threads()}. {described()}",
        "",
        "What a stage takes, what the process has more of its own after it, that for each picture, and the most that "
        "was resident.",
        "",
        "| stage | seconds | more, MB | bytes a picture | most resident, MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {stage.what} | {stage.seconds:.1f} | {(stage.after - stage.before) / _MB:.1f} | "
        f"{(stage.after - stage.before) / arguments.images:.0f} | {stage.peak / _MB:.0f} |"
        for stage in stages
    ]
    own = ", ".join(f"{each / _MB:.0f} MB" for each in workers)
    lines += ["", f"After the last batch the processes that load data had {own} of their own."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
