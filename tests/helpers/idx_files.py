"""Small files in the IDX format of MNIST."""

import gzip
import struct

import torch

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def idx(tensor):
    """Return the IDX bytes of a uint8 tensor."""
    sizes = struct.pack(f">{tensor.ndim}I", *tensor.shape)
    return bytes((0, 0, 8, tensor.ndim)) + sizes + bytes(tensor.flatten().tolist())


def example(count, side=28):
    """Return random images (count, side, side) and labels."""
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, side, side), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 10, (count,), dtype=torch.uint8, generator=generator)


def write(folder, images, labels, split="train", zipped=False):
    """Write the two files of a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensor in zip(NAMES[split], (images, labels), strict=True):
        content = gzip.compress(idx(tensor)) if zipped else idx(tensor)
        (folder / (name + ".gz" * zipped)).write_bytes(content)
