"""The benchmark of speed, on a few images and steps; its real figures are in benchmarks/."""

import importlib.util
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain
from benchmarks.speed import __main__ as speed
from benchmarks.speed import byhand, floor, frameworks, growth, memory, operators, races, scripts, startup, streams
from benchmarks.speed.report import hidden, page, ratio
from benchmarks.speed.timing import LEAD, Lap, Series, in_turns, spread
from gancore import GAN, ConfigLayer, read_images, resolve, train
from gancore.config.run import read_layers
from helpers.idx_files import example, write
from helpers.tiny_components import catalog

STEPS = 6  # R1 is lazy, and has its say in the first and in the fifth
BATCH = 16


def noise(recipe):
    """The recipe on noise in the place of MNIST: the arithmetic is the same. The last batch of an epoch is short."""
    data = {
        "dataset": {"name": "noise", "shape": [1, 28, 28], "count": 70},
        "batch_size": BATCH,
        "duration": "1000000 steps",
    }
    return GAN.assemble(resolve([*read_layers(recipe, catalog()), ConfigLayer("test", data)], catalog()), Path(), "cpu")


def dice_of(gan):
    dice = torch.Generator()
    dice.set_state(gan.state.noise.get_state())
    return dice


def weights(*modules):
    return [parameter.detach() for module in modules for parameter in module.parameters()]


@pytest.fixture
def double():
    """Adam divides a gradient by its own size, so where one is all but zero its sign is a matter of rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("recipe", "channels_last"),
    [("vanilla", False), ("mnist", False), ("mnist", True), ("dcgan", False), ("dcgan", True)],
)
def test_the_loop_by_hand_makes_the_weights_that_gancore_makes(recipe, channels_last):
    gan = noise(recipe)
    stream = gan.feed.batches(0)
    batches = (batch.images for batch in stream)
    loop = byhand.Loop(
        gan.generator,
        gan.discriminator,
        batches,
        replace(byhand.PLANS[recipe], batch=BATCH),
        channels_last=channels_last,
        dice=dice_of(gan),
    )
    before = [weight.clone() for weight in weights(gan.generator, gan.discriminator)]
    loop.run(STEPS)
    for _ in islice(train(gan), STEPS):
        pass
    ours = weights(gan.generator, gan.discriminator)
    assert gan.progress.images_seen < STEPS * gan.options.batch_size, "a short batch was among them"
    torch.testing.assert_close(weights(loop.generator.module, loop.discriminator.module), ours, rtol=0, atol=1e-7)
    assert all(not torch.equal(old, new) for old, new in zip(before, ours, strict=True))
    if gan.ema is not None:
        torch.testing.assert_close(dict(loop.average.state_dict()), dict(gan.ema.state_dict()))


def test_bfloat16_by_hand_moves_the_same_way():
    gan = noise("vanilla")
    before = weights(gan.generator, gan.discriminator)
    moves = {}
    for precision in ("float32", "masters", "autocast"):
        batches = (batch.images.to(torch.bfloat16 if precision == "masters" else None) for batch in gan.feed.batches(0))
        loop = byhand.Loop(
            gan.generator,
            gan.discriminator,
            batches,
            replace(byhand.PLANS["vanilla"], batch=BATCH),
            precision=precision,
            dice=dice_of(gan),
        )
        loop.run(10)
        after = [*loop.generator.masters, *loop.discriminator.masters]
        assert {weight.dtype for weight in after} == {torch.float32}
        moves[precision] = torch.cat([(new - old).flatten() for new, old in zip(after, before, strict=True)]).detach()
    for precision in ("masters", "autocast"):
        likeness = torch.cosine_similarity(moves["float32"], moves[precision], dim=0)
        assert 0.9 < likeness < 1


class Recorded:
    """The batches of a run, as the loader of a script gives them."""

    def __init__(self, gan):
        self._gan = gan

    def __iter__(self):
        for batch in self._gan.feed.batches(0):
            yield [batch.images, batch.labels]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("framework", ["plain script", "PyTorch Lightning"])
def test_the_loops_of_others_make_the_weights_that_gancore_makes(framework, monkeypatch):
    gan = noise("vanilla")
    made = []
    for name, module in (("Generator", gan.generator), ("Discriminator", gan.discriminator)):
        monkeypatch.setattr(plain, name, beginning_as(getattr(plain, name), module, made))
    if framework == "plain script":
        run = scripts.begun(Recorded(gan))
    else:
        pytest.importorskip("lightning")
        run = frameworks.lightning(Recorded(gan))
    torch.set_rng_state(gan.state.noise.get_state())
    assert run(2) > 0
    for _ in islice(train(gan), LEAD + 2):
        pass
    torch.testing.assert_close(weights(*made), weights(gan.generator, gan.discriminator), rtol=0, atol=1e-9)


def beginning_as(network, other, made):
    """Builds the script's network, with the weights of another of the same form."""

    def build():
        module = network()
        module.layers.load_state_dict(dict(zip(module.layers.state_dict(), other.state_dict().values(), strict=True)))
        made.append(module)
        return module

    return build


def test_a_lap_counts_the_steps_after_the_lead_and_begins_anew_when_data_end():
    lap = Lap([1, 2, 3], steps=4, batch_size=1)
    assert list(lap) == [1, 2, 3] * 3
    assert len(lap) == LEAD + 4
    assert lap.seconds > 0


def test_arms_take_turns_and_one_that_cannot_run_says_why():
    said = []

    def arm(name):
        return lambda: lambda steps: said.append((name, steps)) or 1.0

    def broken():
        raise ImportError("no module\nand more")

    series = in_turns("x", {"a": arm("a"), "none": broken, "b": arm("b")}, rounds=3, steps=8, batch=2)
    assert said == [("a", 2), ("b", 2), *((name, 8) for name in "abbaab")]
    assert [each.seconds for each in series] == [[1.0] * 3, [], [1.0] * 3]
    assert [each.missing for each in series] == ["", "ImportError: no module", ""]
    assert series[0].pace == 16


def test_a_ratio_is_of_the_same_round_and_of_the_same_images():
    ours, other = Series("x", "gancore", 10, [1.0, 2.0, 4.0]), Series("x", "other", 5, [1.0, 1.0, 8.0])
    assert ours.times(other) == [1.0, 2.0, 4.0]
    assert ratio(ours.times(other)) == "2.00 (1.00 to 4.00)"
    assert ratio(ours.times(other), inverse=True) == "0.50 (0.25 to 1.00)"
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


def test_the_floor_has_every_product_of_a_step_and_no_other():
    gan = noise("vanilla")
    g, d = floor.widths(gan.generator), floor.widths(gan.discriminator)
    assert (g, d) == ([100, 256, 512, 784], [784, 512, 256, 1])
    left = floor.products(gan.generator, gan.discriminator, BATCH, torch.float32)
    work = sum(2 * out.numel() * a.shape[1] for a, _, out in left)
    counter = FlopCounterMode(display=False)
    with counter:
        next(train(gan))
    assert work == counter.get_total_flops()


def test_the_operators_of_a_step_are_counted_and_their_times_add_up_to_it():
    gan = noise("vanilla")
    loop = train(gan)
    taken = []

    def run(steps):
        begun = perf_counter()
        for _ in islice(loop, steps):
            pass
        taken.append((perf_counter() - begun) / steps)
        return taken[-1]

    rows = list(operators.profiled("gancore", run, 4))
    calls = {row.name: row.calls for row in rows}
    layers = len(floor.widths(gan.generator)) - 1, len(floor.widths(gan.discriminator)) - 1
    assert calls["aten::addmm"] == layers[0] + 2 * layers[1], "D sees real and fake at once"
    assert calls["aten::_fused_adam_"] == 2
    assert all(row.micros >= 0 for row in rows)
    assert sum(row.micros for row in rows) == pytest.approx(1e6 * taken[-1], rel=0.1)
    text = page(rows, "x", 1)
    assert f"| `aten::_fused_adam_` | {next(r.micros for r in rows if 'adam_' in r.name):,.0f} (2.0) |" in text


def test_hidden_is_the_share_of_what_streaming_adds():
    kept, without, with_workers = (Series("x", "", 1, [seconds]) for seconds in (1.0, 3.0, 1.5))
    assert hidden(with_workers, without, kept) == pytest.approx(0.75)
    assert hidden(without, without, kept) == 0
    assert hidden(with_workers, kept, without) is None


ARMS = [
    "plain script",
    "PyTorch Lightning, data in memory",
    "torchgan, data in memory",
    "gancore",
    "gancore, bf16",
    "by hand",
    "by hand, channels last",
]
NEEDED = {"plain script", "gancore", "by hand", "by hand, channels last"}


@pytest.fixture
def where(tmp_path):
    raw = tmp_path / "data" / "MNIST" / "raw"
    write(raw, *example(150), split="train")
    write(raw, *example(9), split="test")
    places = ["--data-dir", tmp_path / "data", "--work", tmp_path / "work", "--out", tmp_path / "speed"]
    return [*map(str, places), "--rounds", "1", "--steps", "1", "--threads", "1"]


def test_the_page_has_every_number_of_the_rows(where, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "VARIED", {what: [growth.World(size=1024)] for what in growth.VARIED})
    monkeypatch.setattr(streams, "WORKERS", (0, 1))
    speed.main([*where, "--sections", *races.SHARES, "growth", "stream", "--arms", *ARMS])
    text, rows = (tmp_path / "speed.md").read_text(), json.loads((tmp_path / "speed.json").read_text())
    series = [Series(**row) for row in rows]
    assert {each.section.partition(":")[0] for each in series} == {*races.SHARES, "growth", "stream"}
    assert "--rounds 1 --steps 1 --threads 1 --sections vanilla mnist dcgan growth stream --arms" in text
    assert str(tmp_path) not in text
    for each in series:
        if each.missing:
            assert each.arm not in NEEDED, each.missing
            assert f"| {each.arm} | not measured: {each.missing} |" in text
        elif each.section in races.SHARES:
            assert f"| {each.arm} | {each.pace:,.0f} |" in text
        else:
            assert f" {1e6 / each.pace:.1f} |" in text
    assert page(series, "x", 1).partition("##")[2] == text.partition("##")[2]
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_the_first_step_is_that_of_a_real_process(where, tmp_path):
    speed.main([*where, "--sections", "start", "--arms", "gancore"])
    torch_alone, ours, sampled = (Series(**row) for row in json.loads((tmp_path / "speed.json").read_text()))
    assert (torch_alone.arm, ours.arm, sampled.arm) == ("import torch", "gancore", startup.SAMPLED)
    assert read_images(tmp_path / "work" / "sampled.npy").shape == (10_000, 1, 28, 28)
    assert (tmp_path / "work" / "first-step" / "metrics.jsonl").read_text().count("\n") == 1
    assert (
        f"| gancore | {ours.seconds[0]:.2f} | {ours.seconds[0] / torch_alone.seconds[0]:.2f} ("
        in (tmp_path / "speed.md").read_text()
    )


def test_the_peak_of_memory_is_that_of_the_process_itself(where, tmp_path, monkeypatch, capsys):
    held = torch.ones(2**26)
    mebibytes, here = held.nbytes / 2**20, memory.resident() / 2**20
    (alone,) = memory.measured([], tmp_path, tmp_path, 1, 1)
    assert mebibytes < here
    assert 50 < alone.mebibytes < here, "what this process holds is no part of the other's peak"
    assert f"| torch alone | {alone.mebibytes:,.0f} |" in page([alone], "x", 1)
    monkeypatch.setattr("sys.argv", ["memory", "gancore", *where[:4], "--steps", "1"])
    memory.main()
    assert float(capsys.readouterr().out.split()[-1]) > mebibytes  # Linux counts pages roughly: not always >= here


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_loop_by_hand_is_laid_out_as_it_is_asked_whatever_the_networks_were(channels_last):
    networks = [
        torch.nn.Conv2d(3, 2, 3).to(memory_format=form) for form in (torch.channels_last, torch.contiguous_format)
    ]
    loop = byhand.Loop(*networks, iter([]), byhand.PLANS["dcgan"], channels_last=channels_last)
    for player in (loop.generator, loop.discriminator):
        assert player.module.weight.is_contiguous() != channels_last


PAGE = Path(speed.__file__).parents[1] / "speed.md"


@pytest.mark.skipif(not PAGE.exists(), reason="nothing has been measured yet")
def test_the_page_in_the_repository_has_every_number_of_its_rows():
    rows = json.loads(PAGE.with_suffix(".json").read_text())
    kinds = {"seconds": Series, "mebibytes": memory.Peak, "micros": operators.Operator}
    rows = [next(kind for key, kind in kinds.items() if key in row)(**row) for row in rows]
    assert page(rows, "x", 1).partition("##")[2] == PAGE.read_text().partition("##")[2]
