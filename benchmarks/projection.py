"""How near the samples of found latents come to images: to samples of the generator, and to images of the data.

    python -m benchmarks.projection RUN --data-dir DATA

The images of the data are held out where the dataset has such a part, else they are of training. Each is compared with
the sample of the latent that `gancore.project` finds, and with 64 random samples of the same class.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

import gancore
from gancore import ReferenceImages, TrainedGenerator
from gancore.sampling.project import distances

_RANDOM = 64


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the run that the command line names, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of dataset files")
    parser.add_argument("--images", type=int, default=20, help="number of images of each kind")
    options = parser.parse_args(arguments)
    trained = gancore.load(options.run, device="cpu")
    dataset = trained.config.dataset
    if dataset.part("train") == dataset:
        dataset = dataset.part("test") or dataset
    reference = ReferenceImages.of(dataset, options.data_dir)
    of_data = reference.draw(options.images, 0, "projection")
    own = torch.cat([trained.sample(1, seed) for seed in range(options.images)])
    print("| images | distance, median (worst) | of random samples, median | ratio, median (worst) |")
    print("| --- | --- | --- | --- |")
    for name, images in (("its own samples", own), (f"{dataset.name}, {reference.split or 'training'}", of_data)):
        print(f"| {name} | {row(trained, images)} |", flush=True)


def row(trained: TrainedGenerator, images: Tensor) -> str:
    """Return the numbers of one kind of images (N, *shape), as cells of a table."""
    found, random = [], []
    projections = [list(gancore.project(trained, image))[-1] for image in images]
    for image, projection in zip(images, projections, strict=True):
        label = projection.label
        sample = trained.generate(projection.latent[None], None if label is None else torch.tensor([label]))
        found.append(float(distances(sample, image, trained.sample_format)))
        others = trained.sample(_RANDOM, 0, label)
        random.append(float(distances(others, image, trained.sample_format).mean()))
    ratios = [near / usual for near, usual in zip(found, random, strict=True)]
    return f"{median(found):.1f} ({max(found):.1f}) | {median(random):.1f} | {median(ratios):.2f} ({max(ratios):.2f})"


if __name__ == "__main__":
    main()
