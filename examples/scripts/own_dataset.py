"""Train on a dataset of your own: any map-style dataset of torch. About 25 seconds on one core.

python own_dataset.py
"""

import torch
from torch import Tensor
from torch.utils.data import Dataset

import gancore


class Shapes(Dataset[tuple[Tensor, int]]):
    """Discs and squares of random size and place, drawn when they are asked for: uint8 (1, 16, 16) and a label."""

    classes = ("disc", "square")  # names that the command line and reports show

    def __len__(self) -> int:
        return 2000

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        random = torch.Generator().manual_seed(index)  # item i is always the same
        x, y = torch.rand(2, generator=random) * 6 + 5
        radius = torch.rand(1, generator=random) * 2 + 2
        rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
        across, down = (columns - x).abs(), (rows - y).abs()
        label = index % 2
        distance = torch.maximum(across, down) if label else (across.square() + down.square()).sqrt()
        image = ((radius - distance + 0.5).clamp(0, 1) * 255).to(torch.uint8)  # a soft border
        return image.unsqueeze(0), label


run = gancore.Run("conditional", dataset=Shapes(), steps=1000, out="runs/own-dataset")
for _ in run.train(progress=True):
    pass
trained = run.load()
samples = torch.cat([trained.sample(32, seed=0, label=label) for label in (0, 1)])
gancore.save_samples(samples, "own_dataset.png")  # discs in the upper half, squares in the lower
