"""Processes that fill the same empty cache at once: `python tests/helpers/cache_race.py COUNT FOLDER URL RELEASES`.

The parent imports the modules and forks COUNT children, which start at the same moment. Each child prints a line of
JSON per task: the task, a digest of its result, and whether this child did the work.
"""

import json
import os
import sys
from pathlib import Path


def main():
    import torch

    from gancore.evaluation import train_extractor
    from gancore.evaluation.features import digest_of_tensor
    from gancore.evaluation.train_extractor import EvaluationPaths, load_extractor
    from gancore_plugins.datasets import cifar, folder, mnist, pictures, published
    from gancore_plugins.datasets.digits import Digits
    from gancore_plugins.extractors.classifier import ClassifierExtractor

    count, root, url, releases = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
    for name, files in releases.items():
        published.RELEASES[name] = published.Release((url,), files)

    def items_digest(dataset):
        built = dataset.build(root)
        items = [built[number] for number in range(len(built))]
        return digest_of_tensor(torch.stack([item[0] if isinstance(item, tuple) else item for item in items]))

    def extractor_digest():
        paths = EvaluationPaths(root, root / "cache", torch.device("cpu"))
        work = load_extractor(ClassifierExtractor(epochs=8), Digits(split="train"), (1, 8, 8), 10, paths)
        while True:
            try:
                next(work)
            except StopIteration as done:
                return done.value.digest

    tasks = {
        "mnist": lambda: items_digest(mnist.MNIST()),
        "cifar10": lambda: items_digest(cifar.CIFAR10()),
        "folder": lambda: items_digest(folder.Folder(path=str(root / "pictures"), size=8)),
        "extractor": extractor_digest,
    }
    worked = []
    for owner, name in ((pictures.PictureCache, "_make"), (train_extractor, "_train_and_cache")):
        original = getattr(owner, name)
        setattr(owner, name, lambda *a, original=original, name=name: worked.append(name) or original(*a))

    reading, writing = os.pipe()
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # returns when the parent closes the other end
            for task, work in tasks.items():
                worked.clear()
                result = work()
                os.write(1, (json.dumps({"task": task, "result": result, "worked": bool(worked)}) + "\n").encode())
            os._exit(0)
        children.append(child)
    os.close(writing)
    os.close(reading)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main()
