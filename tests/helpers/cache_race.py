"""Processes that want the same thing at once: `python tests/helpers/cache_race.py COUNT FOLDER ADDRESS RELEASES`.

One process imports what is needed and makes the others out of itself, which start at one moment, with a cold cache.
Each prints a line of JSON: what it asked for, what it got as a digest, and whether it did the work itself.
"""

import json
import os
import sys
from pathlib import Path


def main():
    import torch

    from gancore.evaluation import train_extractor as learning
    from gancore.evaluation.features import digest_of_values
    from gancore.evaluation.train_extractor import EvaluationPaths, open_reader
    from gancore_plugins.datasets import cifar, folder, mnist, pictures, published
    from gancore_plugins.datasets.digits import Digits
    from gancore_plugins.extractors.digits import DigitsExtractor

    count, root, address, releases = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
    for name, files in releases.items():
        published.RELEASES[name] = published.Release((address,), files)

    def items(dataset):
        built = dataset.build(root)
        return digest_of_values(
            torch.stack(
                [
                    built[number][0] if isinstance(built[number], tuple) else built[number]
                    for number in range(len(built))
                ]
            )
        )

    def judge():
        place = EvaluationPaths(root, root / "cache", torch.device("cpu"))
        work = open_reader(DigitsExtractor(epochs=8), Digits(split="train"), (1, 8, 8), 10, place)
        while True:
            try:
                next(work)
            except StopIteration as done:
                return done.value.digest

    tasks = {
        "mnist": lambda: items(mnist.MNIST()),
        "cifar10": lambda: items(cifar.CIFAR10()),
        "folder": lambda: items(folder.Folder(path=str(root / "pictures"), size=8)),
        "extractor": judge,
    }
    worked = []
    for place, name in ((pictures.Kept, "_make"), (learning, "_learned")):
        original = getattr(place, name)
        setattr(place, name, lambda *a, original=original, name=name: worked.append(name) or original(*a))

    reading, writing = os.pipe()
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # until the other end is closed
            for task, work in tasks.items():
                worked.clear()
                got = work()
                os.write(1, (json.dumps({"task": task, "got": got, "worked": bool(worked)}) + "\n").encode())
            os._exit(0)
        children.append(child)
    os.close(writing)
    os.close(reading)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main()
