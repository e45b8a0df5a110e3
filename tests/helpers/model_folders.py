"""Generators of built-in components with random weights, as `gancore.load` returns them."""

from dataclasses import replace

import torch

from gancore.catalog.catalog import Catalog
from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.contracts import Spec
from gancore.sampling.trained import TrainedGenerator
from gancore.utils.model_folder import write_model
from gancore.utils.sample_format import SampleFormat

SIZES = {  # (shape, fields)
    "mlp": ((1, 4, 4), {"widths": [16]}),
    "dcgan": ((3, 16, 16), {"width": 4}),
    "resnet": ((3, 16, 16), {"width": 8}),
    "r3gan": ((3, 16, 16), {"width": 16, "group_width": 16, "blocks": 1}),
    "subpixel": ((1, 8, 8), {"width": 8, "depth": 1}),
    "light": ((3, 16, 16), {"width": 2}),
    "style": ((1, 8, 8), {"width": 4, "style": 4, "depth": 1}),
}
"""A small one of each built-in generator."""
CASES = [
    *((name, condition) for name in SIZES for condition in (None, 3)),
    *((name, (2,)) for name in ("mlp", "dcgan", "subpixel")),
    ("mlp", (1, 4, 4)),
]
"""Each built-in generator with every condition that it takes."""
NAMES = ("zero", 'a "quoted" | one\n---', "<b>two</b>")


def untrained(path, generator="mlp", condition=None, averaged=True, known=None, **config):
    """A generator with random weights, whose statistics are not those of a new one; `path` is its checkpoint."""
    catalog = known or Catalog.installed()
    shape, fields = SIZES[generator]
    layer = {
        "generator": {"name": generator, **fields},
        "discriminator": "mlp",
        "loss": "bce",
        "dataset": "digits",
        "latent": {"dim": 6},
        "training": {"conditional": condition is not None},
        **({"ema": {}} if averaged else {}),
        **config,
    }
    run = resolve([ConfigLayer("test", layer)], catalog)
    spec = Spec(shape, run.latent.dim, condition, bounded=True)
    torch.manual_seed(1)
    module = run.generator.build(spec).eval()
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.1, 0.5)
    classes = NAMES if condition == len(NAMES) else ()
    known = {"classes": classes, "class_counts": tuple(range(5, 5 + len(classes)))}
    digest = "0123456789abcdef" * 4
    trained = TrainedGenerator(
        module, run, spec, SampleFormat(), 7, torch.device("cpu"), averaged, path, digest, warnings=(), **known
    )
    document = document_of(trained, catalog)
    about = document.pop("about")
    document |= {"made_with": about, "progress": {"step": 7, "images_seen": 448}, "origin": {"recipe": None}}
    return replace(trained, about=document)


def document_of(trained, catalog=None, **about):
    """What config.json holds of a generator, as the exporter `hub` writes it."""
    condition = trained.spec.condition
    return {
        "config": trained.config.to_data(catalog or Catalog.installed()),
        "data_format": {
            "shape": list(trained.shape),
            "condition": list(condition) if isinstance(condition, tuple) else condition,
            "classes": list(trained.classes),
            "class_counts": list(trained.class_counts),
            "dtype": trained.sample_format.dtype,
            "value_range": None,
            "scales": None,
            "columns": [],
            "mirrors": False,
        },
        "about": {
            "step": trained.step,
            "kimg": 0.448,
            "averaged": trained.averaged,
            "checkpoint": trained.digest,
            "recipe": None,
            "gancore": "0.1.0",
            "torch": "2.14.1",
            "python": "3.11.7",
            "plugins": {"gancore": "0.1.0"},
            "needs": [],
            **about,
        },
    }


def folder_of(trained, folder, catalog=None, **about):
    """A folder with this generator; the new folder's path."""
    folder.mkdir()
    write_model(folder, trained.generator.state_dict(), document_of(trained, catalog, **about))
    return folder
