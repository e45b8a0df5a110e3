import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain
from benchmarks.speed import __main__ as speed
from benchmarks.speed import (
    byhand,
    comparisons,
    floor,
    frameworks,
    growth,
    memory,
    operators,
    report,
    scripts,
    startup,
    streams,
)
from benchmarks.speed.report import hidden, page, ratio
from benchmarks.speed.timing import WARM_UP, Lap, Series, interleave, spread
from gancore import GAN, ConfigLayer, read_images, resolve, train
from gancore.config.run import read_layers
from helpers.idx_files import example, write
from helpers.tiny_components import catalog

STEPS = 6  # R1 is lazy and applies in the first and the fifth
BATCH = 16


def noise(recipe):
    """The recipe on noise instead of MNIST: the arithmetic is the same. The last batch of an epoch is short."""
    data = {
        "dataset": {"name": "noise", "shape": [1, 28, 28], "count": 70},
        "batch_size": BATCH,
        "duration": "1000000 steps",
    }
    return GAN.assemble(resolve([*read_layers(recipe, catalog()), ConfigLayer("test", data)], catalog()), Path(), "cpu")


def noise_generator(gan):
    generator = torch.Generator()
    generator.set_state(gan.state.noise.get_state())
    return generator


def weights(*modules):
    return [parameter.detach() for module in modules for parameter in module.parameters()]


@pytest.fixture
def double():
    """Adam divides a gradient by its size, so rounding decides the sign of the update for one that is nearly zero."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("recipe", "channels_last"),
    [("vanilla", False), ("mnist", False), ("mnist", True), ("dcgan", False), ("dcgan", True)],
)
def test_loop_by_hand_makes_the_weights_of_gancore(recipe, channels_last):
    gan = noise(recipe)
    batches = (batch.images for batch in gan.feed.batches(0))
    loop = byhand.Loop(
        gan.generator,
        gan.discriminator,
        batches,
        replace(byhand.PLANS[recipe], batch=BATCH),
        channels_last=channels_last,
        noise=noise_generator(gan),
    )
    before = [weight.clone() for weight in weights(gan.generator, gan.discriminator)]
    loop.run(STEPS)
    for _ in islice(train(gan), STEPS):
        pass
    ours = weights(gan.generator, gan.discriminator)
    assert gan.progress.images_seen < STEPS * gan.options.batch_size, "one batch was short"
    torch.testing.assert_close(weights(loop.generator.module, loop.discriminator.module), ours, rtol=0, atol=1e-7)
    assert all(not torch.equal(old, new) for old, new in zip(before, ours, strict=True))
    if gan.ema is not None:
        torch.testing.assert_close(dict(loop.ema.state_dict()), dict(gan.ema.state_dict()))


def test_loop_by_hand_in_bfloat16_moves_the_same_way():
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
            noise=noise_generator(gan),
        )
        loop.run(10)
        after = [*loop.generator.masters, *loop.discriminator.masters]
        assert {weight.dtype for weight in after} == {torch.float32}
        moves[precision] = torch.cat([(new - old).flatten() for new, old in zip(after, before, strict=True)]).detach()
    for precision in ("masters", "autocast"):
        similarity = torch.cosine_similarity(moves["float32"], moves[precision], dim=0)
        assert 0.9 < similarity < 1


class BatchesOf:
    """The batches of a run in the form of the script's loader."""

    def __init__(self, gan):
        self._gan = gan

    def __iter__(self):
        for batch in self._gan.feed.batches(0):
            yield [batch.images, batch.condition]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("framework", ["plain script", "PyTorch Lightning"])
def test_frameworks_make_the_weights_of_gancore(framework, monkeypatch):
    gan = noise("vanilla")
    made = []
    for name, module in (("Generator", gan.generator), ("Discriminator", gan.discriminator)):
        monkeypatch.setattr(plain, name, with_weights_of(getattr(plain, name), module, made))
    if framework == "plain script":
        run = scripts.start(BatchesOf(gan))
    else:
        pytest.importorskip("lightning")
        run = frameworks.lightning(BatchesOf(gan))
    torch.set_rng_state(gan.state.noise.get_state())
    assert run(2) > 0
    for _ in islice(train(gan), WARM_UP + 2):
        pass
    torch.testing.assert_close(weights(*made), weights(gan.generator, gan.discriminator), rtol=0, atol=1e-9)


def with_weights_of(network, other, made):
    """Build the script's network with the weights of another of the same structure."""

    def build():
        module = network()
        module.layers.load_state_dict(dict(zip(module.layers.state_dict(), other.state_dict().values(), strict=True)))
        made.append(module)
        return module

    return build


def test_lap_times_the_steps_after_the_warm_up_and_repeats_the_data():
    lap = Lap([1, 2, 3], steps=4, batch_size=1)
    assert list(lap) == [1, 2, 3] * 3
    assert len(lap) == WARM_UP + 4
    assert lap.seconds > 0


def test_arms_take_turns_and_report_why_they_cannot_run():
    calls = []

    def arm(name):
        return lambda: lambda steps: calls.append((name, steps)) or 1.0

    def broken():
        raise ImportError("no module\nand more")

    series = interleave("x", {"a": arm("a"), "none": broken, "b": arm("b")}, rounds=3, steps=8, batch=2)
    assert calls == [("a", 2), ("b", 2), *((name, 8) for name in "abbaab")]
    assert [each.seconds for each in series] == [[1.0] * 3, [], [1.0] * 3]
    assert [each.missing for each in series] == ["", "ImportError: no module", ""]
    assert series[0].pace == 16


def test_speedup_compares_the_same_round_per_image():
    ours, other = Series("x", "gancore", 10, [1.0, 2.0, 4.0]), Series("x", "other", 5, [1.0, 1.0, 8.0])
    assert ours.speedups(other) == [1.0, 2.0, 4.0]
    assert ratio(ours.speedups(other)) == "2.00 (1.00 to 4.00)"
    assert ratio(ours.speedups(other), inverse=True) == "0.50 (0.25 to 1.00)"
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


def test_floor_has_exactly_the_matrix_products_of_a_step():
    gan = noise("vanilla")
    g, d = floor.widths(gan.generator), floor.widths(gan.discriminator)
    assert (g, d) == ([100, 256, 512, 784], [784, 512, 256, 1])
    products = floor.products(gan.generator, gan.discriminator, BATCH, torch.float32)
    work = sum(2 * out.numel() * a.shape[1] for a, _, out in products)
    counter = FlopCounterMode(display=False)
    with counter:
        next(train(gan))
    assert work == counter.get_total_flops()


class CountOperators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.calls[f"aten::{function.overloadpacket.__name__}"] += 1
        return function(*arguments, **(named or {}))


def test_operators_have_the_calls_and_the_self_times_of_a_step(monkeypatch):
    monkeypatch.setattr(report, "MIN_SHARE", 0)  # the page lists every operator, however short
    gan = noise("vanilla")
    loop, seconds_per_step = train(gan), []

    def run(steps):
        start = perf_counter()
        for _ in islice(loop, steps):
            pass
        seconds_per_step.append((perf_counter() - start) / steps)
        return steps * seconds_per_step[-1]

    rows = list(operators.profile_steps("gancore", run, 4))
    with CountOperators() as counter:
        next(loop)
    calls = {row.name: row.calls for row in rows}
    for name in ("aten::addmm", "aten::mm", "aten::leaky_relu", "aten::tanh", "aten::_fused_adam_"):
        assert calls[name] == counter.calls[name] > 0, name
    times = {row.name: row.micros for row in rows}
    outside = times.pop(operators.OUTSIDE)
    assert outside > 0, "self times are disjoint, so their sum is less than the time of the step"
    assert 1e-4 < sum(times.values()) / (1e6 * seconds_per_step[-1]) < 1, "a busy machine makes steps longer"
    text = page(rows, "x", 1)
    assert f"| `aten::_fused_adam_` | {times['aten::_fused_adam_']:,.0f} (2.0) |" in text


def test_hidden_is_the_share_of_the_loading_time():
    in_memory, without, with_workers = (Series("x", "", 1, [seconds]) for seconds in (1.0, 3.0, 1.5))
    assert hidden(with_workers, without, in_memory) == pytest.approx(0.75)
    assert hidden(without, without, in_memory) == 0
    assert hidden(with_workers, in_memory, without) is None


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
def options(tmp_path):
    raw = tmp_path / "data" / "MNIST" / "raw"
    write(raw, *example(150), split="train")
    write(raw, *example(9), split="test")
    paths = ["--data-dir", tmp_path / "data", "--work", tmp_path / "work", "--out", tmp_path / "speed"]
    return [*map(str, paths), "--rounds", "1", "--steps", "1", "--threads", "1"]


def test_page_has_every_number_of_the_rows(options, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "VARIED", {what: [growth.Setup(size=1024)] for what in growth.VARIED})
    monkeypatch.setattr(streams, "WORKERS", (0, 1))
    speed.main([*options, "--sections", *comparisons.FEWER_STEPS, "fixed", "growth", "stream", "--arms", *ARMS])
    text, rows = (tmp_path / "speed.md").read_text(), json.loads((tmp_path / "speed.json").read_text())
    series = [Series(**row) for row in rows]
    assert {each.section.partition(":")[0] for each in series} == {
        *comparisons.FEWER_STEPS,
        "fixed",
        "growth",
        "stream",
    }
    assert "--rounds 1 --steps 1 --threads 1 --sections vanilla mnist dcgan fixed growth stream --arms" in text
    assert str(tmp_path) not in text
    for each in series:
        if each.missing:
            assert each.arm not in NEEDED, each.missing
            assert f"| {each.arm} | not measured: {each.missing} |" in text
        elif each.section in comparisons.FEWER_STEPS:
            assert f"| {each.arm} | {each.pace:,.0f} |" in text
        elif each.section == "fixed":
            assert f"| {each.arm} | {1e6 * 16 / each.pace:,.0f} |" in text
        else:
            assert f" {1e6 / each.pace:.1f} |" in text
    assert page(series, "x", 1).partition("##")[2] == text.partition("##")[2]
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_startup_measures_the_first_step_of_a_real_process(options, tmp_path):
    speed.main([*options, "--sections", "start", "--arms", "gancore"])
    imported, ours, *others = (Series(**row) for row in json.loads((tmp_path / "speed.json").read_text()))
    assert (imported.arm, ours.arm) == ("import torch", "gancore")
    assert [other.arm for other in others] == [startup.DEFAULT, startup.SAMPLE, startup.HELP, startup.LIST]
    assert all(len(other.seconds) == 1 for other in others), others
    assert read_images(tmp_path / "work" / "sampled.npy").shape == (10_000, 1, 28, 28)
    assert (tmp_path / "work" / "first-step" / "metrics.jsonl").read_text().count("\n") == 1
    assert (
        f"| gancore | {ours.seconds[0]:.2f} | {ours.seconds[0] / imported.seconds[0]:.2f} ("
        in (tmp_path / "speed.md").read_text()
    )


def test_memory_peak_excludes_the_parent_process(options, tmp_path, monkeypatch, capsys):
    held = torch.ones(2**26)
    mebibytes, here = held.nbytes / 2**20, memory.peak_resident() / 2**20
    (torch_only,) = memory.measure([], tmp_path, tmp_path, 1, 1)
    assert mebibytes < here
    assert 50 < torch_only.mebibytes < here, "the memory of this process is not part of the other's peak"
    assert f"| torch only | {torch_only.mebibytes:,.0f} |" in page([torch_only], "x", 1)
    monkeypatch.setattr("sys.argv", ["memory", "gancore", *options[:4], "--steps", "1"])
    memory.main()
    assert (
        float(capsys.readouterr().out.split()[-1]) > mebibytes
    )  # the kernel's page counts are approximate: not always >= here


@pytest.mark.parametrize("channels_last", [False, True])
def test_loop_by_hand_uses_the_requested_memory_format(channels_last):
    networks = [
        torch.nn.Conv2d(3, 2, 3).to(memory_format=memory_format)
        for memory_format in (torch.channels_last, torch.contiguous_format)
    ]
    loop = byhand.Loop(*networks, iter([]), byhand.PLANS["dcgan"], channels_last=channels_last)
    for network in (loop.generator, loop.discriminator):
        assert network.module.weight.is_contiguous() != channels_last


def test_script_makes_all_tensors_on_the_device():
    devices = set()

    class RecordDevices(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            out = function(*arguments, **(named or {}))
            if isinstance(out, torch.Tensor) and out.ndim:  # Adam counts its steps on the CPU
                devices.add(out.device.type)
            return out

    batches = [[torch.zeros(4, 1, 28, 28), torch.zeros(4).long()]] * 3
    meta = torch.device("meta")
    run = scripts.start(scripts.Moved(batches, meta), meta)
    with RecordDevices():
        run(1)
    assert devices == {"meta"}


def test_arms_on_cuda_are_gancore_and_the_script():
    arms = comparisons.arms("vanilla", Path(), Path(), "cuda")
    assert list(arms) == ["plain script", "plain script, data in memory", *comparisons.ON_CUDA]
    assert list(comparisons.arms("mnist", Path(), Path(), "cuda")) == list(comparisons.ON_CUDA)


PAGE = Path(speed.__file__).parents[1] / "speed.md"


def test_committed_page_has_every_number_of_its_rows():
    rows = json.loads(PAGE.with_suffix(".json").read_text())
    kinds = {"seconds": Series, "mebibytes": memory.Peak, "micros": operators.Operator}
    rows = [next(kind for key, kind in kinds.items() if key in row)(**row) for row in rows]
    assert page(rows, "x", 1).partition("##")[2] == PAGE.read_text().partition("##")[2]
