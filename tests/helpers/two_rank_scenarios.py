"""Two processes that train one GAN, for tests: they have the variables that torchrun sets, and run the same scenarios.

They are forked from a server that has imported torch and gancore, which takes much longer than the scenarios.
"""

import functools
import os
import shutil
import socket
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import torch
from torch import nn

import gancore_families
from gancore.catalog.catalog import Catalog, read_plugin
from gancore.config.layers import REMOVE, ConfigLayer
from gancore.config.run import Options, read_layers, resolve
from gancore.contracts import Augmentation, Loss, Regularizer, Spec
from gancore.distributed.join import join_ranks
from gancore.distributed.ranks import SINGLE_RANK
from gancore.errors import GancoreError
from gancore.run.directory import RunDirectory
from gancore.run.interrupt import Interrupted, Interruption
from gancore.run.resume import run_exists
from gancore.run.run import Run
from gancore.run.run import open as open_run
from gancore.sampling.draw import draw
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore.training.sync import own_randomness
from gancore_plugins.losses.bce import NonSaturating
from gancore_plugins.losses.relativistic import RelativisticAverage
from gancore_plugins.regularizers.gradients import R1, R2
from helpers.contract_parts import Encoding, OfPairs, Pulling, Scaled, Symmetric
from helpers.small_runs import small_run
from helpers.tiny_components import PARTS, TinyDiscriminator, TinyGenerator, catalog, dataset

SHAPE = (1, 4, 4)


def spectral():
    discriminator = TinyDiscriminator().build(Spec(SHAPE))
    for layer in discriminator:
        if isinstance(layer, nn.Linear):
            nn.utils.parametrizations.spectral_norm(layer)
    return discriminator


def convolutions():
    layers = nn.Conv2d(1, 3, 3), nn.LeakyReLU(0.2), nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(2, 1)
    return nn.Sequential(*layers)


def with_an_idle_weight():
    discriminator = TinyDiscriminator().build(Spec(SHAPE))
    discriminator.idle = nn.Parameter(torch.ones(3))
    return discriminator


class Counting(nn.Module):
    """A discriminator that keeps statistics of its input and does not use them."""

    def __init__(self):
        super().__init__()
        self.judge = TinyDiscriminator().build(Spec(SHAPE))
        self.register_buffer("mean", torch.zeros(SHAPE))

    def forward(self, images):
        if self.training:
            self.mean.lerp_(images.detach().mean(dim=0), 0.1)
        return self.judge(images)


class SizeOfFakes(Regularizer):
    """A penalty in G's update that also scores images of its own."""

    name = "size"
    player = "generator"

    def penalty(self, real, fake):
        return fake.images.square().mean() + fake.players.score(fake.images / 2, fake.condition).logits.square().mean()


class Watching(Augmentation):
    """Changes no image, and accumulates the logits of D."""

    name = "watching"

    def build(self, spec):
        return WatchingAtWork()


class WatchingAtWork(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, images, strength):
        return images.clone()

    def observe(self, real):
        self.seen += torch.stack([real.logits.exp().sum(), real.logits.new_tensor(len(real.logits))]).detach()


class Centered(Loss):
    """Subtracts a running mean of the logits of the whole batch."""

    name = "centered"

    def build(self, spec):
        return CenteredAtWork()


class CenteredAtWork(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def discriminator(self, real, fake):
        self.mean.lerp_(real.mean(real.logits.detach()).squeeze(), 0.1)
        return (real.logits - self.mean.clone() - 1).square().mean() + fake.logits.square().mean()

    def generator(self, fake, real):
        return (fake.logits - self.mean.clone()).square().mean()


class OfTheSpread(Loss):
    """A variance over the whole batch: a mean of a mean, with gradients through both."""

    name = "spread"
    needs_real = True

    def discriminator(self, real, fake):
        return fake.mean((fake.logits - fake.mean(fake.logits)).square()).sum() - real.mean(real.logits.tanh()).sum()

    def generator(self, fake, real):
        return (fake.mean(fake.logits) - real.mean(real.logits)).square().sum()


class Doubtful:
    """NaN once: in the third update of D, on rank 1 only."""

    def __init__(self):
        self.sound, self.times = NonSaturating(), 0

    def discriminator(self, real, fake):
        self.times += 1
        loss = self.sound.discriminator(real, fake)
        return loss * torch.nan if (os.environ["RANK"], self.times) == ("1", 3) else loss

    def generator(self, fake, real):
        return self.sound.generator(fake, real)


def gan(  # the keywords are those of SAME
    ranks=SINGLE_RANK,
    *,
    objective=None,
    generator=None,
    discriminator=None,
    size=20,
    batch=8,
    duration="6 steps",
    parts=(),
    **training,
):
    torch.manual_seed(0)
    options = Options(
        duration=duration,
        batch_size=batch,
        latent={"dim": 5},
        # Not Adam, which amplifies a gradient that is zero except for rounding.
        optimizer={player: {"name": "SGD", "lr": 0.05, "momentum": 0.5} for player in ("generator", "discriminator")},
        ema={"half_life_kimg": 0.05},
        training={"discriminator_steps": 2, **training},
    )
    return GAN(
        generator or TinyGenerator().build(Spec(SHAPE, 5)),
        discriminator or TinyDiscriminator().build(Spec(SHAPE)),
        dataset(size),
        (objective or NonSaturating()),
        options,
        "cpu",
        ranks=ranks,
        **dict(parts),
    )


def regularized(**regularizers):
    return {"regularizers": regularizers}


UNEVEN = {"size": 13, "batch": 5}
SAME = {
    "plain": {},
    "fresh fakes": {"fakes": "fresh"},
    "101 images": {"size": 101, "batch": 3, "duration": "1 epochs"},
    "uneven": UNEVEN,
    "streamed": {**UNEVEN, "data": "stream"},
    "lazy r1": {"batch": 5, "parts": regularized(r1=R1(gamma=1.0, interval=2))},
    "r1 and r2": {**UNEVEN, "parts": regularized(r1=R1(gamma=1.0), r2=R2(gamma=0.5, interval=3))},
    "penalty of G's": {**UNEVEN, "parts": regularized(size=SizeOfFakes(interval=2))},
    "spectral": {**UNEVEN, "discriminator": spectral},
    "pixel by pixel": {**UNEVEN, "discriminator": convolutions, "channels_last": True},
    "relativistic average": {**UNEVEN, "objective": RelativisticAverage},
    "relativistic average, r1": {**UNEVEN, "objective": RelativisticAverage, "parts": regularized(r1=R1(gamma=1.0))},
    "mean of a mean": {**UNEVEN, "objective": OfTheSpread},
    "stateful loss": {**UNEVEN, "objective": Centered},
    "own network of the loss": {**UNEVEN, "objective": Scaled, "parts": regularized(mine=Pulling(interval=2))},
    "pairs, r1": {
        **UNEVEN,
        **{"objective": Symmetric, "generator": Encoding, "discriminator": OfPairs},
        "parts": regularized(r1=R1(gamma=0.5, interval=2)),
    },
    "accumulated": {**UNEVEN, "accumulate": 2},
    "statistics": {**UNEVEN, "discriminator": Counting, "discriminator_steps": 1},
    "clipped": {"clip_norm": 0.01},
    "idle weight": {"discriminator": with_an_idle_weight},
    "watched": {**UNEVEN, "parts": {"augmentations": {"watching": Watching()}}},
}
"""GANs that two ranks train exactly as one process does."""


def made(ranks, **changes):
    return gan(ranks, **{key: each() if callable(each) else each for key, each in changes.items()})


FAMILIES = {
    "infogan": {},
    "bigan": {"regularizers": {"r1": {"gamma": 1.0}}},
    "pix2pix": {},
}
"""Recipes of gancore-families that two ranks train exactly as one process does, with changes."""


def family(ranks, recipe):
    plugin = read_plugin(gancore_families, "families", "gancore-families", "0.1.0")
    whole = Catalog([*Catalog.installed().plugins, plugin])
    sgd = {player: {"name": "SGD", "lr": 0.05, "betas": REMOVE} for player in ("generator", "discriminator")}
    layers = [
        *read_layers(recipe, whole),
        ConfigLayer("small", {"duration": "6 steps", "batch_size": 9, "optimizer": sgd}),
        ConfigLayer("test", FAMILIES[recipe]),
    ]
    return GAN.assemble(resolve(layers, whole), Path(), "cpu", ranks)


def outcome(run):
    """The state after the last step, and the numbers of all steps."""
    steps = [{key: value for key, value in step.scalars().items() if key != "seconds"} for step in train(run)]
    return {"steps": steps, "tensors": trained(run), "skipped": run.progress.nonfinite}


def trained(run):
    return {key: value.clone() for key, value in run.state.tensors().items() if not key.startswith("random")}


def failure(make, *arguments, **changes):
    try:
        outcome(make(*arguments, **changes))
    except GancoreError as error:
        return type(error).__name__, str(error)


def by_other_clocks(ranks):
    with patch("gancore.training.loop.perf_counter", lambda: perf_counter() * (1 + ranks.rank)):
        return outcome(gan(ranks, duration="0.003 minutes"))


def drawn(run):
    """Samples at rank 0, and random numbers as modules draw them."""
    samples = draw(run.sampler(), 150, latent=run.options.latent, seed=3, device=run.device, ranks=run.ranks)
    with own_randomness(run):
        return samples, torch.rand(3)


def recorded(ranks, folder, *, stop=None, close=None, nan=False, **changes):
    """How a recorded run ends at a rank, its last step, and its tensors; rank 1 gets a signal at step `stop`."""
    config = {"duration": "7 steps", "batch_size": 4, "checkpoint": {"every_steps": 2}, "ema": {}, **changes}
    layers = [ConfigLayer("test", PARTS), ConfigLayer("test", config)]
    run = Run(layers, out=folder, device="cpu", catalog=catalog(), ranks=ranks)
    assembled = run.assemble()
    if nan:
        assembled.loss.objective = Doubtful()
    interruption = Interruption()
    records = run.train(interruption=interruption)
    end = "whole"
    try:
        for number, _ in enumerate(records, start=1):
            if number == stop and not ranks.is_main:
                interruption.arrive(15)
            if number == close and ranks.is_main:
                records.close()
    except (Interrupted, GancoreError) as error:
        end = type(error).__name__, getattr(error, "signal", str(error))
    return end, assembled.progress.step, trained(assembled)


def scenes(ranks, folder):
    return {
        "same": {name: outcome(made(ranks, **changes)) for name, changes in SAME.items()},
        "families": {name: outcome(family(ranks, name)) for name in FAMILIES},
        "empty share": failure(gan, ranks, size=13, batch=4),
        "no cuda": failure(
            gan, ranks, discriminator=TinyDiscriminator(batch_norm=True).build(Spec(SHAPE)), sync_batchnorm=True
        ),
        "nan": failure(gan, ranks, objective=Doubtful()),
        "nan, left out": outcome(gan(ranks, objective=Doubtful(), on_nonfinite="skip")),
        "batch norm": outcome(
            gan(
                ranks,
                size=19,
                batch=7,
                discriminator=TinyDiscriminator(batch_norm=True, dropout=0.5).build(Spec(SHAPE)),
            )
        ),
        "share of one": failure(
            gan, ranks, **UNEVEN, discriminator=TinyDiscriminator(batch_norm=True).build(Spec(SHAPE))
        ),
        "minutes": by_other_clocks(ranks),
        "drawn": drawn(gan(ranks)),
        "recorded": recorded(ranks, folder / "recorded"),
        "stopped": recorded(ranks, folder / "stopped", stop=3),
        "closed": recorded(ranks, folder / "closed", close=3),
        "there": there(ranks, folder),
        "changed": changed(ranks, folder),
        "dry": dry(ranks, folder),
        "choice": choice(ranks),
        "nan, back": recorded(ranks, folder / "back", nan=True, training={"on_nonfinite": "rollback"}),
        "nan, stop": recorded(ranks, folder / "stop", nan=True),
        "beyond the limit": recorded(
            ranks, folder / "beyond", nan=True, training={"on_nonfinite": "rollback", "nonfinite_limit": 0}
        ),
    }


def changed(ranks, folder):
    """The batch size, log interval and tensors of a run that rank 0 alone has, resumed with other settings."""
    if ranks.is_main:
        shutil.copytree(folder / "recorded", folder / "changed0")
    run = open_run(folder / f"changed{ranks.rank}", device="cpu", catalog=catalog(), ranks=ranks)
    asked = {"batch_size": 6, "log.every_steps": 1, "optimizer.generator.lr": 0.0} if ranks.is_main else None
    list(run.resume(steps=9, set=asked))
    return run.config.batch_size, run.config.log.every_steps, trained(run.gan)


def dry(ranks, folder):
    """The steps of a dry run, by clocks that differ, from weights that rank 0 alone has."""
    layers = [ConfigLayer("test", PARTS), ConfigLayer("test", {"duration": "7 steps", "batch_size": 4, "ema": {}})]
    weights = folder / ("recorded" if ranks.is_main else "nowhere")
    run = Run(layers, device="cpu", catalog=catalog(), ranks=ranks, init_from=weights)
    with patch("gancore.run.cost.perf_counter", lambda: perf_counter() * (1 + 1e9 * ranks.rank)):
        run.dry_run()
    return run.gan.progress.step, trained(run.gan)


def choice(ranks):
    """What is chosen where rank 0 has one thread, and rank 1 could use two."""
    torch.set_num_threads(1 + ranks.rank)
    chosen = gan(ranks, threads="auto").choice
    torch.set_num_threads(1)
    return chosen.threads, dict(chosen.seconds_per_step)


def there(ranks, folder):
    """Whether a run exists that all ranks have, that no rank has, and that only rank 1 has."""
    (folder / f"own{ranks.rank}").mkdir()
    if not ranks.is_main:
        (folder / "own1" / "config.toml").touch()
    said = [run_exists(RunDirectory(folder / name), ranks) for name in ("recorded", "nowhere")]
    try:
        run_exists(RunDirectory(folder / f"own{ranks.rank}"), ranks)
    except GancoreError as error:
        return *said, type(error).__name__


def environment(rank, size, port):
    """The environment that torchrun sets for a process."""
    said = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {key: str(value) for key, value in said.items()}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@functools.cache
def fork_server():
    """A context of processes that have imported torch, gancore and the built-in plugins already.

    Only what Python finds by itself can be imported there: the server of Python 3.11 does not get the `pythonpath` of
    pytest, and ignores a module that it does not find.
    """
    context = get_context("forkserver")
    compiler = "torch._dynamo"  # imported with the first optimizer, which takes seconds
    context.set_forkserver_preload(["gancore.run.run", "gancore_plugins", compiler])
    return context


def in_two_processes(function, *arguments, port=None, **variables):
    """Call a function in two processes, as torchrun starts them, with more variables; what each returns."""
    port = port or free_port()
    with ProcessPoolExecutor(2, fork_server()) as processes:
        calls = [
            processes.submit(_with_variables, environment(rank, 2, port) | variables, function, *arguments)
            for rank in range(2)
        ]
        try:
            return [call.result(timeout=300) for call in calls]
        except BaseException:
            for process in processes._processes.values():  # a rank may wait for the other for ever
                process.kill()
            raise


def _with_variables(variables, function, *arguments):
    os.environ |= variables
    return function(*arguments)


def crowd(folder):
    """Run the scenarios in two processes, in double precision; the results of each."""
    in_two_processes(_save_scenes, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def _save_scenes(folder):
    torch.set_default_dtype(torch.float64)
    with join_ranks("cpu") as ranks:
        torch.save(scenes(ranks, folder), folder / f"{ranks.rank}.pt")


def closed_and_resumed(path):
    """Train a run that joins the ranks by itself, close it at step 3, and resume it; its steps, and the rank."""
    changes = {"ema": {}, "checkpoint": {"every_steps": 2}, "log": {"every_steps": 1}}
    steps = []
    for record in small_run(path, changes).train():
        steps.append(record.step.step)
        if record.step.step == 3:
            break
    run = open_run(path, device="cpu", catalog=catalog())
    steps += [record.step.step for record in run.resume()]
    return steps, run.gan.ranks.rank
