"""Hostile and damaged checkpoints: `python tests/torture/checkpoints.py 20000`.

Half of the mutations get a matching digest, so that the checks after it are tried too. Reading any file must end within
two seconds, with a well-formed checkpoint or a CheckpointError. Damage is a flip of each bit of the first 4 KB and of
10,000 others, and a cut at each length of the header and at 1,000 others.
"""

import hashlib
import json
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import safetensors.torch
import torch

from gancore.checkpoint import store as checkpoint
from gancore.checkpoint.format import LARGEST_HEADER
from gancore.errors import CheckpointError

BLANK = "0" * 64
SEAL = re.compile(rb'"sha256":"([0-9a-f]{64})"')
PATIENCE = 2.0


def digest_of(content):
    """The digest that matches a file. Raises the parser's exception when the file is damaged."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    hashed = hashlib.sha256(header["__metadata__"]["gancore"].encode())
    for name, tensor in sorted(safetensors.torch.load(content).items()):
        hashed.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return hashed.hexdigest()


def sealed(content):
    """The bytes with a matching digest; unchanged unless they are a safetensors file with a digest."""
    found = SEAL.search(content)
    try:
        digest = digest_of(content).encode()
    except Exception:
        return content
    return content[: found.start(1)] + digest + content[found.end(1) :] if found else content


def written(header, data=b""):
    """A file of a header, text or data for JSON, with a matching digest if it is valid."""
    text = (header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))).encode(
        errors="surrogatepass"
    )
    text += b" " * (-len(text) % 8)
    return sealed(len(text).to_bytes(8, "little") + text + data)


def described(document, **tensors):
    """A header of a document, text or data for JSON, and of entries of tensors."""
    about = document if isinstance(document, str) else json.dumps(document)
    return {"__metadata__": {"sha256": BLANK, "gancore": about}, **tensors}


def opened(content):
    """Header, document and data of a valid file."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["gancore"]), content[8 + length :]


def example(folder):
    """The bytes of a valid checkpoint with tensors of many kinds."""
    path = folder / "example.safetensors"
    tensors = {
        "generator.0.weight": torch.arange(48.0).reshape(6, 8),
        "generator.0.count": torch.tensor(3),
        "generator.0.mask": torch.tensor([True, False, True]),
        "generator.0.none": torch.empty(0, 4),
        "generator.0.half": torch.ones(5, dtype=torch.bfloat16),
        "random.noise": torch.arange(64, dtype=torch.uint8),
    }
    about = {
        "config": {"schema": 1, "generator": {"name": "mlp", "width": [16, 32]}, "latent": {"dim": 8}},
        "data_format": {
            **{"shape": [1, 8, 8], "condition": 10, "classes": list("0123456789")},
            **{"dtype": "uint8", "value_range": None, "mirrors": False},
        },
        "progress": {"step": 7, "images_seen": 448, "seconds": 1.5},
        "made_with": {"plugins": {"gancore": "0.1.0"}, "needs": [], "torch": "2.11"},
    }
    checkpoint.save(path, tensors, about)
    return path.read_bytes()


def unexpected(chance):
    """A value of an unexpected type or size."""
    return chance.choice(
        [
            *(None, True, -1, 0, 1, 2**31, 2**40, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308, "", "F32", "\ud800"),
            *("\x1b[2J", "x" * 5000, [], {}, [[]], {"": {}}, [0] * 1000, [2**40] * 70, [0, 2**62], ["a"], [1, 2]),
            *([True, 8], {"dtype": "F32"}, "U8", "F4", "../../x"),
        ]
    )


def scrambled(content, chance):
    """Bytes changed at random."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4, 16])):
        place = chance.randrange(len(changed) + 1)
        # More often in the header, which the parser reads.
        place = chance.choice([place, place % 2000, place % 16])
        match chance.randrange(8):
            case 0 if changed:
                changed[place % len(changed)] ^= 1 << chance.randrange(8)
            case 1 if changed:
                changed[place % len(changed)] = chance.choice(b'\x00\xff{}[]",:0-e\\')
            case 2:
                changed[place:place] = chance.randbytes(chance.choice([1, 8, 100]))
            case 3:
                del changed[place : place + chance.choice([1, 8, 100])]
            case 4:
                del changed[place:]
            case 5:
                changed += chance.randbytes(chance.choice([1, 8, 1000]))
            case 6:
                part = changed[place : place + chance.choice([4, 30, 200])]
                changed[place:place] = part * chance.choice([1, 2, 50])
            case 7:
                changed[:8] = chance.choice([0, 1, 2, 8, 2**20, LARGEST_HEADER, 2**32, 2**63, 2**64 - 1]).to_bytes(
                    8, "little"
                )
    return bytes(changed)


def spoiled(value, chance):
    """The same JSON with a value replaced, removed, inserted or nested one level deeper."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        changed = dict(value)
        match chance.randrange(8):
            case 0:
                changed.pop(key)
            case 1:
                changed[chance.choice(["", "x", "format", "__metadata__", "sha256", "\ud800"])] = unexpected(chance)
            case 2:
                changed[key] = unexpected(chance)
            case _:
                changed[key] = spoiled(value[key], chance)
        return changed
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], spoiled(value[place], chance), *value[place + chance.choice([0, 1, 1, 1]) :]]
    if isinstance(value, int) and chance.random() < 0.5:
        return value + chance.choice([-8, -4, -1, 1, 4, 8, 2**32])
    return unexpected(chance)


def restated(content, chance):
    """A file with other values in its header or document, in valid JSON."""
    tensors, document, data = opened(content)
    del tensors["__metadata__"]
    for _ in range(chance.choice([1, 1, 2, 3])):
        if chance.random() < 0.5:
            document = spoiled(document, chance)
        else:
            changed = spoiled(tensors, chance)
            tensors = changed if isinstance(changed, dict) else {"": changed}
    text = json.dumps({**described(json.dumps(document)), **tensors}, separators=(",", ":"))
    match chance.randrange(12):
        case 0:
            text = text[:-1] + ',"generator.0.count":' + json.dumps(unexpected(chance)) + "}"
        case 1:
            depth = chance.choice([10, 1000, 100_000])
            text = text[:-1] + ',"deep":' + chance.choice(["[", '{"":']) * depth + "}"
        case 2:
            text = text.replace("448", chance.choice(["NaN", "-Infinity", "1e999", "9" * 5000]), 1)
    return written(text, data)


def mutation(content, chance):
    """A valid file changed in one of four ways."""
    match chance.randrange(4):
        case 0 | 1:
            return scrambled(content, chance)
        case 2:
            return sealed(scrambled(content, chance))
        case _:
            return restated(content, chance)


def well_formed(found):
    """Use all fields and tensors of a checkpoint, as its callers do."""
    progress = found.about["progress"]
    assert isinstance(found.about["config"], dict)
    assert all(isinstance(each, int) and each > 0 for each in found.about["data_format"]["shape"])
    assert progress["step"] >= 0 <= progress["images_seen"]
    assert 0 <= float(progress["seconds"]) < float("inf")
    for tensor in found.tensors.values():
        tensor.clone().flatten().view(torch.uint8).sum()


def attempt(path, original):
    """Read a file; return the outcome, what is wrong with it if anything, and the seconds."""
    begin = time.perf_counter()
    try:
        found = checkpoint.load_run(path)
        well_formed(found)
        seen, wrong = "read", None
        content = path.read_bytes()
        if content != sealed(content):
            wrong = "read, and its digest does not match"
        elif content == original:
            seen = "unchanged"
    except CheckpointError as error:
        text = str(error).replace(str(path), "", 1).strip()
        seen = re.sub(r"[\d,]+|'.*'|\(.*", "#", text)[:60]
        wrong = None if text.isprintable() else "its message is not printable"
    except BaseException as error:
        seen, wrong = type(error).__name__, f"{type(error).__name__}: {error}"[:300]
    taken = time.perf_counter() - begin
    if wrong is None and taken > PATIENCE:
        wrong = f"took {taken:.1f} s"
    return seen, wrong, taken


def fuzz(folder, count, seed=0):
    """Read `count` mutations; yield the outcome of each, what is wrong if anything, and the seconds."""
    chance = random.Random(seed)  # noqa: S311  # repeatable, not secret
    original = example(folder)
    path = folder / "mutated.safetensors"
    for index in range(count):
        path.write_bytes(mutation(original, chance))
        seen, wrong, taken = attempt(path, original)
        if wrong:
            wrong = f"mutation {index} of seed {seed}: {wrong}"
        yield seen, wrong, taken


def damages(content, chance, flips, lengths, first):
    """Flip each of the `first` bits and `flips` others; cut at each length of the header and at `lengths` others."""
    header = 8 + int.from_bytes(content[:8], "little")
    bits = 8 * len(content)
    for bit in (*range(min(first, bits)), *(chance.randrange(bits) for _ in range(flips))):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(changed)
    for length in (*range(header), *(chance.randrange(len(content)) for _ in range(lengths))):
        yield f"length {length}", content[:length]


def damaged(folder, flips=10_000, lengths=1_000, bits=8 * 4096, seed=0):
    """Read a larger checkpoint with each kind of damage; yield the damage, what is wrong, and the seconds."""
    chance = random.Random(seed)  # noqa: S311  # repeatable, not secret
    path = folder / "damaged.safetensors"
    original = example(folder)
    _, document, _ = opened(original)
    tensors = checkpoint.load(folder / "example.safetensors").tensors
    more = {f"generator.{index}.weight": torch.full((20, 20), float(index)) for index in range(1, 12)}
    checkpoint.save(path, {**tensors, **more}, document)
    content = path.read_bytes()
    for what, changed in damages(content, chance, flips, lengths, bits):
        path.write_bytes(changed)
        seen, wrong, taken = attempt(path, content)
        yield what, wrong or ("not noticed" if seen in ("read", "unchanged") else None), taken


def main(count):
    """Try `count` mutations and all damage, and print the outcomes."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="gancore-torture-") as place:
        seen, broken, longest = Counter(), [], 0.0
        begin = time.perf_counter()
        for what, wrong, taken in fuzz(Path(place), count):
            seen[what] += 1
            longest = max(longest, taken)
            broken += [wrong] if wrong else []
        print(f"{count} mutations, {time.perf_counter() - begin:.0f} s, longest {longest:.2f} s, broken {len(broken)}")
        for what, times in seen.most_common():
            print(f"{times:8} {what}")
        cases, missed, longest = 0, [], 0.0
        for what, wrong, taken in damaged(Path(place)):
            cases += 1
            longest = max(longest, taken)
            missed += [(what, wrong)] if wrong else []
        print(f"{cases} damaged files, longest {longest:.2f} s, missed {len(missed)}")
        for each in [*broken, *missed][:20]:
            print("broken:", each)
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return 1 if broken or missed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 20_000))
