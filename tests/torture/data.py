"""Damaged data files: `python tests/torture/data.py 20000 [SEED]`.

Valid files of each form are damaged at random, written to disk, and read by the code that reads them in a run. A reader
may return data, or raise a GancoreError. It must not raise anything else, end its process, take more than two seconds,
or hold much more memory than the file and the data that it declares. The exit code is 1 if one did. Case N of a seed
is always the same file.

A child process reads the cases, so that a crash or a hang is counted like other failures.
"""

import argparse
import gzip
import io
import json
import multiprocessing
import os
import platform
import random
import shutil
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import safetensors.numpy
import torch
from PIL import Image

SLOW = 2.0
"""The most seconds for a file."""
HUNG = 30.0
"""Seconds after which a process is killed."""
MOST = 64 << 20
"""The most bytes of memory that reading a file may add."""


def idx(shape, values):
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + values


MODES = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "jpg": ["L", "RGB", "CMYK"],
    "gif": ["L", "P"],
    "tif": ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"],
    "ppm": ["1", "L", "RGB", "I;16"],
}
"""Pillow's modes that a form can hold; RGB for others."""
FORMATS = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}
"""Pillow's names of the formats that are not the form in capitals."""


def picture(dice, form):
    mode = dice.choice(MODES.get(form, ["RGB"]))
    size = (dice.randint(1, 40), dice.randint(1, 40))
    noise = np.frombuffer(dice.randbytes(size[0] * size[1]), np.uint8).reshape(size[1], size[0])
    image = Image.fromarray(noise)
    image = image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
    options = {}
    if form == "jpg":
        exif = Image.Exif()
        exif[0x0112], exif[0x010F], exif[0x0132] = dice.randint(0, 9), "camera", "2020"
        options = {"exif": exif, "progressive": dice.random() < 0.5, "icc_profile": dice.randbytes(99)}
    if form == "tif" and mode != "1":
        options = {"compression": dice.choice([None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])}
    out = io.BytesIO()
    image.save(out, FORMATS.get(form, form.upper()), **options)
    return out.getvalue()


def values(dice):
    shape, kind = dice.choice(
        [
            ((3, 1, 4, 5), "u1"),
            ((3, 4, 5, 3), "u1"),
            ((2, 6, 6), "u1"),
            ((4, 7), "<f4"),
            ((4, 7), "<f8"),
            ((3, 2, 9), "<f4"),
            ((3, 4, 4), "<u2"),
            ((2, 1, 3, 3, 3), "u1"),
        ]
    )
    array = np.frombuffer(dice.randbytes(8 * 200), kind)[: np.prod(shape)].reshape(shape)
    return np.nan_to_num(array, posinf=1, neginf=-1) if kind[1] == "f" else array


def arrays(dice, form):
    """Return the bytes of a file of arrays: images, and most often labels."""
    array, out = values(dice), io.BytesIO()
    if form == "npy":
        np.save(out, array if dice.random() < 0.8 else np.asfortranarray(array), allow_pickle=False)
        return out.getvalue()
    named = {"images": array} | ({"labels": np.arange(len(array)) % 2} if dice.random() < 0.7 else {})
    if form == "npz":
        (np.savez if dice.random() < 0.5 else np.savez_compressed)(out, **named)
    elif form == "safetensors":
        return safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in named.items()})
    else:
        with h5py.File(out, "w") as file:
            for name, value in named.items():
                file.create_dataset(name, data=value, compression=dice.choice([None, "gzip"]), chunks=True)
    return out.getvalue()


def rows(dice, form):
    """Return the bytes of a table of numbers."""
    columns = {name: [round(dice.gauss(40, 9), 2) for _ in range(dice.randint(2, 9))] for name in ("age", "height")}
    shortest = min(map(len, columns.values()))
    columns = {name: column[:shortest] for name, column in columns.items()}
    if form == "parquet":
        out = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns), out)
        return out.getvalue()
    separator = {"csv": dice.choice(",;"), "tsv": "\t"}[form]
    lines = [separator.join(columns), *(separator.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    return "\n".join(lines).encode() + b"\n"


def archive(dice):
    """Return the bytes of a zip of two classes of pictures, at times with the labels of a dataset.json."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", dice.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as file:
        names = [f"{'ab'[number % 2]}/{number}.png" for number in range(dice.randint(2, 4))]
        for name in names:
            file.writestr(name, picture(dice, "png"))
        if dice.random() < 0.4:
            file.writestr(
                "dataset.json", json.dumps({"labels": [[name, number % 2] for number, name in enumerate(names)]})
            )
    return out.getvalue()


def labels(dice, form):
    """Return the bytes of labels of the pictures that `PICTURES` names."""
    number = dice.random() < 0.5
    label = {name: [dice.random(), dice.random()] if number else dice.choice(["cat", "dog"]) for name in PICTURES}
    if form == "json":
        label = {name: value if number else dice.randrange(2) for name, value in label.items()}
        return json.dumps({"labels": list(label.items())}).encode()
    lines = [",".join([name, *map(str, value)]) if number else f"{name},{value}" for name, value in label.items()]
    return "\n".join(["file,label" + ",second" * number, *lines]).encode() + b"\n"


def valid(form, dice):
    """The bytes of a valid file."""
    if form in ("idx", "gz"):
        count = dice.randint(1, 6)
        return idx((count, 28, 28), dice.randbytes(count * 784))
    if form == "cifar":
        return b"".join(bytes([dice.randrange(10)]) + dice.randbytes(3072) for _ in range(dice.randint(1, 3)))
    if form in ("npy", "npz", "safetensors", "h5"):
        return arrays(dice, form)
    if form in ("csv", "tsv", "parquet"):
        return rows(dice, form)
    if form in ("labels", "json"):
        return labels(dice, form)
    return archive(dice) if form == "zip" else picture(dice, form)


def damaged(data, dice):
    """The bytes with one to four changes."""
    data = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 4])):
        place = dice.randrange(len(data) + 1) if dice.random() < 0.6 else dice.randrange(min(len(data), 64) + 1)
        kind = dice.randrange(9)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << dice.randrange(8)
        elif kind == 1 and place < len(data):
            data[place] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place : place + dice.randint(1, 32)]
        elif kind == 4:
            data[place:place] = dice.randbytes(dice.randint(1, 32))
        elif kind == 5:
            data[place:place] = data[place : place + dice.randint(1, 200)] * dice.randint(1, 9)
        elif kind == 6:
            order = dice.choice("<>")
            number = dice.choice([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, dice.randrange(2**32)])
            data[place : place + 4] = struct.pack(f"{order}I", number)
        elif kind == 7:
            end = place + dice.randint(1, 64)
            data[place:end] = bytes([dice.choice([0, 0xFF])]) * (min(end, len(data)) - place)
        else:
            data += dice.randbytes(dice.choice([1, 2, 100]))
    return bytes(data)


def with_checksums(data):
    """A PNG with correct checksums in its chunks, so that their content is read."""
    out, place = data[:8], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        if len(body) < 4 + length:
            break
        out += struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return out + data[place:]


def case(seed, number):
    """The form and the bytes of a damaged file."""
    dice = random.Random(f"{seed}/{number}")  # noqa: S311  # damage, not secrets
    form = FORMS[number % len(FORMS)]
    data = valid(form, dice)
    if form == "gz" and dice.random() < 0.4:
        return form, gzip.compress(damaged(data, dice), mtime=0)
    if form == "gz":
        data = gzip.compress(data, mtime=0)
    if form == "npy" and dice.random() < 0.4:  # in the text of the header, without a change of its length
        text = bytearray(data[10:128])
        for _ in range(dice.randint(1, 4)):
            text[dice.randrange(len(text))] = dice.choice(b"()[]{}',:-+.0123456789eLjOV<>|\\\"# \n\x00\xff")
        return form, data[:10] + bytes(text) + data[128:]
    if form == "png" and dice.random() < 0.5:
        return form, with_checksums(damaged(data, dice))
    return form, damaged(data, dice)


@cache
def catalog():
    from gancore import Catalog

    return Catalog.installed()


def read(form, path, root):
    """Read a file as a run does: look at it, build its dataset, read the items, and say what was found."""
    from gancore.config.from_path import dataset_at
    from gancore.data.feed import Feed
    from gancore_plugins.datasets import cifar, idx

    if form in ("idx", "gz"):
        idx.read_idx(path, dims=3)
        return
    if form == "cifar":
        cifar._read(path)
        return
    dataset = dataset_at(path if form in PLACES else path.parent, catalog())
    if dataset.name == "folder":
        # A damaged header may declare as many pixels as the limit allows; decoding takes a few bytes for each of them.
        named = {"labels": path.name} if form in ("labels", "json") else {}
        dataset = dataset.model_copy(update={"max_pixels": 2048 * 2048, **named})
    dataset.outline()
    for _ in dataset.prepare(root):
        pass
    Feed(dataset.build(root), batch_size=1, seed=0, device=torch.device("cpu"), data="device")
    dataset.findings(root)


PLACES = {"npy", "npz", "safetensors", "h5", "csv", "tsv", "parquet", "zip"}
"""The forms of which a file is a dataset; of the others its folder is."""
PICTURES = ("a.png", "b.png", "c.png")
"""Undamaged pictures that the labels of `labels.csv` and `dataset.json` are for."""
READERS = {
    "idx": "file",
    "gz": "file.gz",
    "cifar": "file.bin",
    "png": "file.png",
    "jpg": "file.jpg",
    "bmp": "file.bmp",
    "webp": "file.webp",
    "gif": "file.gif",
    "tif": "file.tif",
    "ppm": "file.ppm",
    "jp2": "file.jp2",
    "avif": "file.avif",
    "npy": "file.npy",
    "npz": "file.npz",
    "safetensors": "file.safetensors",
    "h5": "file.h5",
    "csv": "file.csv",
    "tsv": "file.tsv",
    "parquet": "file.parquet",
    "zip": "file.zip",
    "labels": "labels.csv",
    "json": "dataset.json",
}
"""Forms, and the names of their files."""
FORMS = [*READERS, "png", "jpg"]


@dataclass
class Tally:
    """The outcomes of the cases of one form."""

    read: int = 0
    refused: int = 0
    failures: list = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0
    errors: Counter = field(default_factory=Counter)

    @property
    def tried(self):
        return self.read + self.refused + len(self.failures)


def held(peak=False):
    """Bytes of memory of this process: now, or the peak since the last call without `peak`. Only on Linux."""
    name = "VmHWM" if peak else "VmRSS"
    with open("/proc/self/status", encoding="ascii") as status:
        figures = dict(line.split(":", 1) for line in status)
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")
    return int(figures[name].split()[0]) << 10


MEASURES = os.access("/proc/self/clear_refs", os.W_OK)


def attempt(form, data, folder):
    """Read the bytes as a file; return the outcome, its detail, the seconds, and the bytes of memory."""
    from gancore.errors import GancoreError

    shutil.rmtree(folder, ignore_errors=True)
    folder.joinpath("in").mkdir(parents=True)
    path = folder / "in" / READERS[form]
    path.write_bytes(data)
    if form in ("labels", "json"):
        for name in PICTURES:
            Image.new("RGB", (16, 16)).save(folder / "in" / name)
    before = held() if MEASURES else 0
    begun = time.perf_counter()
    try:
        read(form, path, folder / "root")
        outcome = ("read", "")
    except GancoreError as error:
        outcome = ("refused", type(error).__name__)
        if str(path.parent) not in error.message:
            outcome = ("failure", f"the file is not named: {error.message}")
    except BaseException as error:  # any other exception is a failure
        outcome = ("failure", "".join(traceback.format_exception_only(error)).strip())
    seconds = time.perf_counter() - begun
    grown = max(0, held(peak=True) - before) if MEASURES else 0
    if outcome[0] != "failure" and seconds > SLOW:
        outcome = ("failure", f"took {seconds:.1f} s")
    if outcome[0] != "failure" and grown > MOST + 2 * len(data):
        outcome = ("failure", f"took {grown >> 20} MB of memory")
    return (*outcome, seconds, grown)


def _work(connection, seed, scratch):
    """Read the cases whose numbers arrive, in a child process."""
    import warnings

    warnings.simplefilter("error")
    while (number := connection.recv()) is not None:
        form, data = case(seed, number)
        connection.send((form, *attempt(form, data, Path(scratch, str(os.getpid())))))


class Worker:
    """The child process that reads the cases; it is started again after it died."""

    def __init__(self, seed, scratch):
        self.context, self.seed, self.scratch = multiprocessing.get_context("spawn"), seed, scratch
        self.process = None

    def ask(self, number):
        """Return the outcome of a case."""
        if self.process is None:
            self.pipe, theirs = self.context.Pipe()
            self.process = self.context.Process(target=_work, args=(theirs, self.seed, self.scratch), daemon=True)
            self.process.start()
            theirs.close()
            self.pipe.send(-1)  # not counted: the first case imports the readers
            self.pipe.poll(300)
            self.pipe.recv()
        self.pipe.send(number)
        try:
            if self.pipe.poll(HUNG):
                return self.pipe.recv()
            what = f"hung for {HUNG:.0f} s"
        except EOFError:
            self.process.join()
            what = f"the process ended with {self.process.exitcode}"
        self.close()
        return (case(self.seed, number)[0], "failure", what, HUNG, 0)

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def torture(count, seed=0, report=lambda number: None):
    """Read `count` damaged files; return tallies by form. Calls `report` with the number of files read so far."""
    tallies = {form: Tally() for form in READERS}
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # a folder of its own is made in it
    with tempfile.TemporaryDirectory(prefix="torture-", dir=memory) as scratch:
        worker = Worker(seed, scratch)
        try:
            for number in range(count):
                form, outcome, what, seconds, grown = worker.ask(number)
                tally = tallies[form]
                tally.seconds += seconds
                tally.slowest, tally.memory = max(tally.slowest, seconds), max(tally.memory, grown)
                if outcome == "failure":
                    tally.failures.append(f"case {number} of seed {seed}, {form}: {what}")
                else:
                    setattr(tally, outcome, getattr(tally, outcome) + 1)
                    tally.errors[what] += outcome == "refused"
                report(number + 1)
        finally:
            worker.close()
    return tallies


def table(tallies):
    """The tallies as a Markdown table."""
    lines = [
        "| form | files | read | refused | failures | mean ms | slowest ms | most memory MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for form, tally in tallies.items():
        mean = 1000 * tally.seconds / max(1, tally.tried)
        lines.append(
            f"| {form} | {tally.tried:,} | {tally.read:,} | {tally.refused:,} | {len(tally.failures)} | {mean:.1f} | "
            f"{1000 * tally.slowest:.0f} | {tally.memory / (1 << 20):.1f} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=20_000, help="damaged files")
    parser.add_argument("seed", type=int, nargs="?", default=0)
    options = parser.parse_args()
    begun = time.monotonic()

    def report(number):
        if number % 1000 == 0:
            print(f"{number:,} files, {time.monotonic() - begun:.0f} s", file=sys.stderr)

    tallies = torture(options.count, options.seed, report)
    print(table(tallies))
    failures = [failure for tally in tallies.values() for failure in tally.failures]
    print(
        f"\n{sum(tally.tried for tally in tallies.values()):,} files of seed {options.seed} in "
        f"{time.monotonic() - begun:.0f} s, {len(failures)} failures; {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, memory {'measured' if MEASURES else 'not measured'}"
    )
    for failure in failures[:50]:
        print(failure)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
