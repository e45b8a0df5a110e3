"""Rules by which values of a config follow from pictures and the machine; each has its reason and, if any, its source.

A recipe lists the keys that follow from rules, `rules = ["batch_size", "optimizer"]`, at the top of its file; a table
stands for its keys. A key that the user sets is never changed, and rules for other keys see the user's value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gancore.config.duration import Duration
from gancore.config.layers import REMOVE, ConfigLayer, Table, flattened, merge
from gancore.contracts import Shape
from gancore.errors import ConfigError, unknown_name

R1_GAMMA_PER_PIXEL = 0.0625
"""R1's gamma times the batch size, per pixel: 1 at 32x32 with a batch of 64, as in recipe `mnist`.

The rule is that of Karras et al. 2020 (arXiv:2006.06676), whose factor is 0.0002. With it, networks `subpixel` made
worse emoji at 32x32 in short runs.
"""
CPU_SIDE, GPU_SIDE = 32, 64
"""The shorter side in pixels to which pictures are reduced, without and with a GPU."""
SIDE_STEP = 8
"""Sides of reduced pictures are multiples of this, so that networks can halve them."""
FEWEST_OF_CLASS = 10
"""The fewest items of a class, on average, for a conditional run."""
_SMALLEST_BASE, _LARGEST_BASE = 4, 15
"""The shorter side in pixels of the smallest features of networks that halve images, for which none are cut off."""
_WIDTH, _WIDE_SIDE, _FEWEST_CHANNELS = 64, 64, 16
"""Channels up to a side of this many pixels, and the fewest channels of larger pictures."""
_CPU_BATCH, _GPU_BATCH, _SMALLEST_BATCH = 32, 64, 16
_CPU_BATCH_SIDE, _GPU_BATCH_SIDE = 64, 128
"""The largest side in pixels with the full batch size."""
_R1_INTERVAL = 4
"""Steps between penalties: lazy regularization, Karras et al. 2020 (arXiv:1912.04958), to save time."""
_CPU_KIMG, _GPU_KIMG, _FEWEST_KIMG = 1000, 2000, 50
_RAMP_KIMG = 500
"""Thousands of images in which ADA's probability can rise from 0 to 1, Karras et al. 2020 (arXiv:2006.06676)."""
PICTURES = 20
"""How many pictures of samples a run draws."""
_PLAYERS = ("generator", "discriminator")
_FAMILIES: Mapping[str, Table] = {
    "dcgan": {"latent": 128, "lr": 1.6e-3},
    "mlp": {"latent": 64, "lr": {"from": 1e-3, "to": 1e-4}, "widths": [512, 512]},
}
"""What belongs to networks of each family. The recipe `arrays` has the same values for `mlp`."""


@dataclass(frozen=True)
class Facts:
    """What rules know: the shape (C, H, W) of a picture, how many there are, in how many classes, and on what.

    `classes` is 0 for data without classes. `mirrors` says whether mirrored pictures are as likely; `accelerated`
    whether there is a GPU, `pretrained` whether training begins with the weights of an earlier run.
    """

    shape: Shape
    items: int
    classes: int = 0
    mirrors: bool = False
    accelerated: bool = False
    pretrained: bool = False

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.shape[1] * self.shape[2]

    @property
    def side(self) -> int:
        """The shorter side in pixels."""
        return min(self.shape[1:])


Settings = Mapping[str, object]
"""The values so far by dotted keys: of the user, of earlier rules, then of the recipe."""
Decide = Callable[[Facts, Settings, str], object]


@dataclass(frozen=True)
class Rule:
    """How values of some `keys` follow from facts. `text` has the rule in words, `reason` why it is so.

    `decide` returns the value of a key; None leaves that of the recipe, `REMOVE` removes the key.
    """

    keys: tuple[str, ...]
    text: str
    reason: str
    decide: Decide


@dataclass(frozen=True)
class Decision:
    """The value of a key that a rule has decided, and the reason."""

    key: str
    value: object
    reason: str


def decisions(names: Iterable[str], facts: Facts, base: Table, own: Table) -> Iterator[Decision]:
    """Yield what the rules for these keys decide, in the order of `RULES`; a name stands for all keys below it too.

    `base` is the config of the recipe, `own` what is set above it, which is never changed. Raises ConfigError for a
    name without a rule.
    """
    settings = dict(_values(merge_tables(base, own)))
    for rule, key in rules_for(names):
        if is_set(key, own) or (value := rule.decide(facts, settings, key)) is None:
            continue
        settings = {each: kept for each, kept in settings.items() if not _is_below(each, key)}
        settings |= {} if value == REMOVE else {key: value}
        yield Decision(key, value, rule.reason)


def rules_for(names: Iterable[str]) -> list[tuple[Rule, str]]:
    """Return each key that these names stand for, with its rule. Raise ConfigError for a name without a rule."""
    listed = [*names]
    every = [(rule, key) for rule in RULES for key in rule.keys]
    for name in listed:
        if not any(_is_below(key, name) for _, key in every):
            known = sorted({key for _, key in every})
            raise ConfigError(f"a recipe lists rules, and {unknown_name('rule', name, known)}", "gancore recipes")
    return [(rule, key) for rule, key in every if any(_is_below(key, name) for name in listed)]


def _is_below(key: str, name: str) -> bool:
    """Return whether a dotted key is `name`, or is in the table of that name."""
    return f"{key}.".startswith(f"{name}.")


def is_set(key: str, own: Table) -> bool:
    """Return whether a table sets a dotted key, a part of it, or a table around it by a value of its own."""
    parts = key.split(".")
    value: object = own
    for position, part in enumerate(parts):
        if not isinstance(value, Mapping) or part not in value:
            break
        value = value[part]
        if not isinstance(value, Mapping):
            names_the_part = position == 0 and len(parts) > 1 and value != REMOVE  # generator = "dcgan"
            return not names_the_part or parts[1] == "name"
    else:
        return True
    return False


def merge_tables(*tables: Table) -> Table:
    """Return nested tables merged, later ones over earlier ones."""
    return merge(ConfigLayer("", table) for table in tables)[0]


def _values(table: Table) -> Iterator[tuple[str, object]]:
    for key, value in flattened(table).items():
        yield (f"{key}.name" if key in _PLAYERS else key), value


def wanted_shape(shape: Shape, *, accelerated: bool) -> Shape:
    """Return the shape (C, H, W) to which pictures of a shape are reduced or rounded; the same if it fits."""
    channels, *sides = shape
    most = GPU_SIDE if accelerated else CPU_SIDE
    if min(sides) <= most and can_be_halved(sides[0], sides[1]):
        return shape
    scale = min(most / min(sides), 1.0)
    return (channels, *(max(round(side * scale / SIDE_STEP), 1) * SIDE_STEP for side in sides))


def can_be_halved(height: int, width: int) -> bool:
    """Return whether networks that halve both sides, as long as they are even, come to small features."""
    sides = height, width
    while all(side % 2 == 0 and side // 2 >= _SMALLEST_BASE for side in sides):
        sides = sides[0] // 2, sides[1] // 2
    return sides != (height, width) and min(sides) <= _LARGEST_BASE


def fitting_batch(items: int, wanted: int) -> int:
    """Return the largest batch size up to `wanted` that data of this many items allows.

    No epoch ends with a batch of one item, which batch normalization does not take.
    """
    batch = min(items, wanted)
    while batch > 1 and items % batch == 1:
        batch -= 1
    return max(batch, 1)


def has_classes(items: int, classes: int) -> bool:
    """Return whether classes have enough items for a conditional run."""
    return 1 < classes <= items / FEWEST_OF_CLASS


def r1_gamma(pixels: int, batch: int) -> float:
    """Return R1's gamma for a number of pixels and a batch size, to three digits."""
    return float(f"{R1_GAMMA_PER_PIXEL * pixels / batch:.3g}")


def augmentation_policy(facts: Facts) -> list[str]:
    """Return the operations of `diffaugment` and `ada` that fit the pictures."""
    return ["translation", "cutout", *(["flip"] if facts.mirrors else [])]


def _networks(facts: Facts, settings: Settings, key: str) -> str:
    return "dcgan" if facts.side >= 2 * _SMALLEST_BASE else "mlp"


def _family(settings: Settings, key: str) -> str:
    """Return the name of the player's networks; `optimizer.generator.lr` and `generator.width` are of the generator."""
    player = next(part for part in key.split(".") if part in _PLAYERS)
    return str(settings.get(f"{player}.name", "")).rpartition(":")[2]


def _width(facts: Facts, settings: Settings, key: str) -> int | None:
    if _family(settings, key) != "dcgan":
        return None
    width, side = _WIDTH, max(facts.shape[1:])
    while side > _WIDE_SIDE and width > _FEWEST_CHANNELS:
        width, side = width // 2, (side + 1) // 2
    return width


def _widths(facts: Facts, settings: Settings, key: str) -> object:
    return _FAMILIES["mlp"]["widths"] if _family(settings, key) == "mlp" else None


def _has_batch_normalization(settings: Settings, player: str) -> bool:
    return _family(settings, player) == "dcgan" and settings.get(f"{player}.normalization", "batch") == "batch"


def _latent(facts: Facts, settings: Settings, key: str) -> object:
    return _FAMILIES.get(_family(settings, "generator"), {}).get("latent")


def _rate(facts: Facts, settings: Settings, key: str) -> object:
    return _FAMILIES.get(_family(settings, key), {}).get("lr")


def _betas(facts: Facts, settings: Settings, key: str) -> list[float]:
    return [0.5, 0.999] if _has_batch_normalization(settings, "discriminator") else [0.0, 0.99]


def _conditional(facts: Facts, settings: Settings, key: str) -> bool | None:
    return has_classes(facts.items, facts.classes) if facts.classes > 1 else None


def _batch(facts: Facts, settings: Settings, key: str) -> int:
    batch, side = _GPU_BATCH if facts.accelerated else _CPU_BATCH, max(facts.shape[1:])
    while side > (_GPU_BATCH_SIDE if facts.accelerated else _CPU_BATCH_SIDE) and batch > _SMALLEST_BATCH:
        batch, side = batch // 2, (side + 1) // 2
    return fitting_batch(facts.items, batch)


def _r1(facts: Facts, settings: Settings, key: str) -> float | None:
    batch = settings.get("batch_size")
    if _has_batch_normalization(settings, "discriminator") or not (isinstance(batch, int) and batch > 0):
        return None
    return _R1_INTERVAL if key.endswith("interval") else r1_gamma(facts.pixels, batch)


def _policy(facts: Facts, settings: Settings, key: str) -> list[str]:
    return augmentation_policy(facts)


def _refresh(facts: Facts, settings: Settings, key: str) -> bool:
    return _has_batch_normalization(settings, "generator")


def _duration(facts: Facts, settings: Settings, key: str) -> str:
    kimg = min(max(facts.items, _FEWEST_KIMG), _GPU_KIMG if facts.accelerated else _CPU_KIMG)
    return f"{kimg // 2 if facts.pretrained else kimg} kimg"


def _kimg(settings: Settings) -> float | None:
    """Return the duration in kimg; None if it has another unit."""
    try:
        total = Duration.parse(str(settings.get("duration", "")))
    except ValueError:  # reported when the whole config is resolved
        return None
    return total.amount if total.unit == "kimg" else None


def _ramp(facts: Facts, settings: Settings, key: str) -> float | None:
    kimg = _kimg(settings)
    return None if kimg is None or kimg >= 2 * _RAMP_KIMG else float(f"{kimg / 2:.3g}")


def _every(facts: Facts, settings: Settings, key: str) -> float | None:
    kimg = _kimg(settings)
    return None if kimg is None else float(f"{kimg / PICTURES:.3g}")


def _in_words(rate: object) -> str:
    return f"{rate['from']:g} to {rate['to']:g}" if isinstance(rate, Mapping) else f"{rate:g}"


def _both(field: str) -> tuple[str, ...]:
    return tuple(f"{player}.{field}" for player in _PLAYERS)


RULES: tuple[Rule, ...] = (
    Rule(
        ("dataset.size",),
        f"pictures are reduced until the shorter side has {CPU_SIDE} pixels, with a GPU {GPU_SIDE}, and sides that "
        f"cannot be halved to {_SMALLEST_BASE} to {_LARGEST_BASE} pixels are rounded to multiples of {SIDE_STEP}",
        "four times the pixels take four times as long, and networks halve the sides",
        lambda facts, settings, key: None,  # of the dataset itself, whose field may have another name
    ),
    Rule(
        _both("name"),
        f"`dcgan`, below {2 * _SMALLEST_BASE} pixels `mlp`",
        "of the networks tried for ten minutes on one core, those with batch normalization in D made the best emoji",
        _networks,
    ),
    Rule(
        _both("width"),
        f"{_WIDTH} if the longer side has up to {_WIDE_SIDE} pixels, half of it up to {2 * _WIDE_SIDE}, and so forth, "
        f"at least {_FEWEST_CHANNELS}",
        "so that time and memory of larger pictures grow with the side, not with its square",
        _width,
    ),
    Rule(
        _both("widths"),
        "512, 512 for `mlp`",
        "as in the recipe arrays",
        _widths,
    ),
    Rule(
        ("latent.dim",),
        ", ".join(f"{family['latent']} for `{name}`" for name, family in _FAMILIES.items()),
        "as many numbers as such networks use elsewhere; more do not cost time",
        _latent,
    ),
    Rule(
        ("training.conditional",),
        f"true if classes have at least {FEWEST_OF_CLASS} pictures on average",
        f"with fewer than {FEWEST_OF_CLASS} pictures of a class D memorizes them",
        _conditional,
    ),
    Rule(
        ("batch_size",),
        f"{_CPU_BATCH} if the longer side has up to {_CPU_BATCH_SIDE} pixels, with a GPU {_GPU_BATCH} up to "
        f"{_GPU_BATCH_SIDE}, half of it up to twice as many, and so forth, at least {_SMALLEST_BATCH}; at most the "
        "number of pictures",
        "small batches make more steps in the same time; a GPU computes more pictures at once; larger ones take more "
        "memory; and a batch has no picture twice",
        _batch,
    ),
    Rule(
        ("regularizers.r1.gamma", "regularizers.r1.interval"),
        f"none with batch normalization in D; else {R1_GAMMA_PER_PIXEL:g} times the pixels, divided by `batch_size`, "
        f"every {_R1_INTERVAL} steps",
        "D needs one of the two; gradients grow with the pixels, and their noise falls with the batch, Karras et al. "
        "2020 (arXiv:2006.06676), with a larger factor for short runs",
        _r1,
    ),
    Rule(
        ("augmentations.ada.policy",),
        "translation and cutout; flip if `dataset.mirrors`",
        "how often is adapted during the run, more often when D memorizes pictures, Karras et al. 2020 "
        "(arXiv:2006.06676), since augmentation that D does not need slows down G; changed colors made those of emoji "
        "poorer in half an hour",
        _policy,
    ),
    Rule(
        tuple(f"optimizer.{player}.lr" for player in _PLAYERS),
        ", ".join(f"{_in_words(family['lr'])} for `{name}`" for name, family in _FAMILIES.items()),
        "eight times the rate of Radford et al. 2016 (arXiv:1511.06434), since short runs with EMA gain from every "
        "doubling up to there, and D memorizes pictures at lower rates; those of `mlp` as in the recipe arrays",
        _rate,
    ),
    Rule(
        tuple(f"optimizer.{player}.betas" for player in _PLAYERS),
        "0.5, 0.999 with batch normalization in D; else 0, 0.99",
        "of Radford et al. 2016 (arXiv:1511.06434); with R1, momentum makes D overshoot",
        _betas,
    ),
    Rule(
        ("ema.refresh_batchnorm",),
        "true with batch normalization in G",
        "averages of the statistics do not fit the averaged weights",
        _refresh,
    ),
    Rule(
        ("duration",),
        f"1,000 views of each picture, between {_FEWEST_KIMG} and {_CPU_KIMG:,} kimg, with a GPU {_GPU_KIMG:,}; half "
        "of it with `--init-from`, Wang et al. 2018 (arXiv:1805.01677)",
        "up to an hour and a half of one core at 32x32; D memorizes few pictures in longer runs",
        _duration,
    ),
    Rule(
        ("augmentations.ada.ramp_kimg",),
        f"half of a duration in kimg, at most {_RAMP_KIMG}",
        "so that the probability can reach its maximum in a short run; longer ones as in Karras et al. 2020 "
        "(arXiv:2006.06676)",
        _ramp,
    ),
    Rule(
        ("sample.every_kimg",),
        f"a {PICTURES}th of the duration, in kimg; a run in minutes draws at most as many without it",
        "so that the first pictures come soon",
        _every,
    ),
)
"""All rules, in the order in which they are applied."""
