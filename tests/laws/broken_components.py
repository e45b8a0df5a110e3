"""Components that break one law each, and for each the law that must notice."""

import math
import random
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import TensorDataset

from gancore import testing as laws
from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Output, Regularizer, StatefulLoss
from gancore.metrics import Extractor, Features, Measurement, Metric
from gancore.observers import Observer, Writer

BROKEN = []
"""Pairs of a component and the laws that it breaks, the one meant for it first."""


def breaks(law, *also):
    def note(component):
        BROKEN.append((component, [law.__name__, *(other.__name__ for other in also)]))
        return component

    return note


class Net(nn.Module):
    """A sound network, perhaps for labels too."""

    def __init__(self, inputs, outputs, num_classes=None, squash=True):
        super().__init__()
        self.layer = nn.Linear(inputs, math.prod(outputs))
        self.codes = None if num_classes is None else nn.Embedding(num_classes, inputs)
        self.outputs, self.squash = outputs, squash

    def forward(self, batch, labels=None):
        batch = batch.flatten(1)
        if self.codes is not None:
            batch = batch + self.codes(labels)
        return self.end(self.layer(batch))

    def end(self, made):
        return (made.tanh() if self.squash else made).unflatten(1, self.outputs)


class SoundGenerator(Generator):
    name = "sound"
    net: ClassVar[type[nn.Module]] = Net

    def build(self, shape, latent_dim, num_classes):
        return self.net(latent_dim, shape, num_classes, squash=len(shape) == 3)


class SoundDiscriminator(Discriminator):
    name = "sound"
    net: ClassVar[type[nn.Module]] = Net

    def build(self, shape, num_classes):
        return self.net(math.prod(shape), (1,), num_classes, squash=False)


def holding(base, law, also):
    """A sound component of the base with another network, which breaks these laws."""

    def make(net):
        body = {"net": net, "__annotations__": {"net": ClassVar[type]}, "__module__": __name__, "name": net.__name__}
        return breaks(law, *also)(type(net.__name__, (base,), body))

    return make


def generator(law, *also):
    return holding(SoundGenerator, law, also)


def discriminator(law, *also):
    return holding(SoundDiscriminator, law, also)


# --- generators ---


@breaks(laws.output_has_the_promised_shape)
class WideIsWrong(SoundGenerator):
    name = "wide-is-wrong"
    width: int = Field(default=8, ge=1, le=64)

    def build(self, shape, latent_dim, num_classes):
        first, *rest = shape
        wrong = (first, *rest) if self.width <= 20 else (first + 1, *rest)
        inner = nn.Sequential(nn.Linear(latent_dim, self.width), nn.ReLU(), nn.Linear(self.width, math.prod(wrong)))
        return nn.Sequential(*inner, nn.Tanh() if rest else nn.Identity(), nn.Unflatten(1, wrong))


@generator(laws.gradient_reaches_every_parameter)
class Detached(Net):
    def end(self, made):
        return super().end(made).detach()


@generator(laws.same_seed_same_result)
class RollsItsOwnDice(Net):
    def end(self, made):
        return super().end(made + random.random())  # noqa: S311  # that is what is wrong with it


@generator(laws.leaves_its_inputs_alone)
class ChangesItsLatent(Net):
    def forward(self, batch, labels=None):
        return super().forward(batch.mul_(0.5), labels)


@generator(laws.what_it_builds_survives_a_round_trip)
class CountsItsCalls(Net):
    calls = 0

    def end(self, made):
        self.calls += 1
        return super().end(made + 0.1 * self.calls)


@generator(laws.stays_on_its_device)
class MakesNoiseOnTheCPU(Net):
    def end(self, made):
        return super().end(made + torch.zeros(made.shape[1], device="cpu"))


@generator(laws.stays_in_single_precision)
class LeaksDoubles(Net):
    def end(self, made):
        return super().end(made.double() * 0.5)


@generator(laws.accepts_a_batch_of_one)
class SqueezesTheBatch(Net):
    def end(self, made):
        return super().end(made.squeeze(0))


@generator(laws.an_image_does_not_depend_on_its_batch)
class AlwaysNormalizes(Net):
    def end(self, made):
        return super().end(made - made.mean(dim=0))


@breaks(laws.every_field_does_something)
class Idle(SoundGenerator):
    name = "idle"
    depth: int = Field(default=1, ge=0, le=8)


@generator(laws.images_lie_in_their_range)
class Unbounded(Net):
    def end(self, made):
        return 3 + made.unflatten(1, self.outputs)


@generator(laws.images_lie_in_their_range)
class EndsInASigmoid(Net):
    def end(self, made):
        return made.sigmoid().unflatten(1, self.outputs)


@generator(laws.latents_change_what_it_makes)
class DrawsItsOwnLatent(Net):
    def forward(self, batch, labels=None):
        return super().forward(torch.randn_like(batch), labels)


@generator(laws.labels_change_what_it_makes)
class Deaf(Net):
    def forward(self, batch, labels=None):
        return self.end(self.layer(batch)) + 0 * (0 if self.codes is None else self.codes(labels).sum())


@breaks(laws.survives_a_round_trip)
class Doubles(SoundGenerator):
    name = "doubles"
    width: int = Field(default=8, ge=1)

    @field_validator("width")
    @classmethod
    def twice(cls, value):
        return 2 * value

    def build(self, shape, latent_dim, num_classes):
        return nn.Sequential(nn.Linear(latent_dim, self.width), *Made.layers(self.width, shape))


class Made:
    @staticmethod
    def layers(width, shape):
        end = nn.Tanh() if len(shape) == 3 else nn.Identity()
        return nn.Linear(width, math.prod(shape)), end, nn.Unflatten(1, shape)


@generator(laws.either_works_or_says_why_not)
class AsksForMore(Net):
    def end(self, made):
        if made.shape[1] < 100:
            raise IndexError("there are not enough pixels")
        return super().end(made)


# --- discriminators ---


@discriminator(laws.output_has_the_promised_shape)
class ForgetsK(Net):
    def end(self, made):
        return made.mean(dim=1)


@discriminator(laws.output_has_the_promised_shape)
class MeansItsFeatures(Net):
    def end(self, made):
        return Output(made, features=(made.mean(dim=0),))


@discriminator(laws.logits_are_no_probabilities)
class GivesProbabilities(Net):
    def end(self, made):
        return made.sigmoid()


@discriminator(laws.mixing_is_found_out)
class ComparesInLargeBatches(Net):
    def end(self, made):
        return made - made.mean(dim=0) if len(made) >= 16 else made


@discriminator(laws.gradient_reaches_the_images)
class LooksAway(Net):
    def forward(self, batch, labels=None):
        return super().forward(batch.detach(), labels)


@discriminator(laws.gradient_reaches_every_parameter)
class KeepsAnIdleLayer(Net):
    def __init__(self, *arguments, **others):
        super().__init__(*arguments, **others)
        self.idle = nn.Linear(2, 2)


@discriminator(laws.same_seed_same_result)
class RollsNumpysDice(Net):
    def end(self, made):
        return made + np.random.rand()  # that is what is wrong with it


@discriminator(laws.stays_on_its_device, laws.what_it_builds_survives_a_round_trip)  # one mistake, two harms
class HoldsAPlainTensor(Net):
    def __init__(self, *arguments, **others):
        super().__init__(*arguments, **others)
        self.offset = torch.randn(1)

    def end(self, made):
        return made + self.offset


@discriminator(laws.leaves_the_process_as_it_was)
class LooksForAnomalies(Net):
    def forward(self, batch, labels=None):
        torch.autograd.set_detect_anomaly(True)
        return super().forward(batch, labels)


# --- losses ---


class SoundLoss(Loss):
    name = "sound"

    def discriminator(self, real, fake):
        return softplus(-real.logits).mean() + softplus(fake.logits).mean()

    def generator(self, fake, real):
        return softplus(-fake.logits).mean()


@breaks(laws.losses_are_finite_scalars)
class LogOfSigmoid(SoundLoss):
    def generator(self, fake, real):
        return -fake.logits.sigmoid().log().mean()


@breaks(laws.losses_are_finite_scalars)
class OneForEachImage(SoundLoss):
    def generator(self, fake, real):
        return softplus(-fake.logits).mean(dim=1).sort().values


@breaks(laws.gradient_reaches_what_is_scored)
class DetachedLoss(SoundLoss):
    def generator(self, fake, real):
        return super().generator(fake, real).detach()


@breaks(laws.gradient_reaches_what_is_scored)
class SeesNoReal(SoundLoss):
    def discriminator(self, real, fake):
        return softplus(fake.logits).mean()


@breaks(laws.a_loss_does_not_grow_with_the_batch)
class SumsOverImages(SoundLoss):
    def discriminator(self, real, fake):
        return softplus(-real.logits).mean() + softplus(fake.logits).sum()


@breaks(laws.leaves_the_process_as_it_was)
class SetsTheSeed(SoundLoss):
    def generator(self, fake, real):
        torch.manual_seed(0)
        return super().generator(fake, real)


@breaks(laws.scores_do_not_depend_on_order)
class PrefersTheFirst(SoundLoss):
    def generator(self, fake, real):
        return softplus(-fake.logits[0]).mean()


@breaks(laws.stays_on_its_device)
class TargetsOnTheCPU(SoundLoss):
    def generator(self, fake, real):
        return (fake.logits - torch.ones(fake.logits.shape)).square().mean()


@breaks(laws.leaves_its_inputs_alone)
class ClampsInPlace(SoundLoss):
    def generator(self, fake, real):
        return softplus(-fake.logits.clamp_(-0.1, 0.1)).mean()


@breaks(laws.accepts_a_batch_of_one)
class ComparesPairs(SoundLoss):
    def generator(self, fake, real):
        distances = nn.functional.pdist(fake.logits)
        return super().generator(fake, real) - distances.max() * 1e-3


@breaks(laws.accepts_a_batch_of_one)
class SpreadOfOne(SoundLoss):
    def discriminator(self, real, fake):
        centered = real.logits - real.logits.mean(dim=0)
        spread = centered.square().sum(dim=0) / (len(centered) - 1)
        return super().discriminator(real, fake) + 1e-3 * spread.mean()


@breaks(laws.what_it_builds_survives_a_round_trip)
class ForgetsItsMean(StatefulLoss):
    name = "forgets"

    def build(self):
        return Forgetful()


class Forgetful(nn.Module):
    needs_real = False
    mean = 0.0

    def discriminator(self, real, fake):
        self.mean = 0.5 * self.mean + 0.5 * float(real.logits.detach().mean())
        return softplus(self.mean - real.logits).mean() + softplus(fake.logits).mean()

    def generator(self, fake, real):
        return softplus(-fake.logits).mean()


@breaks(laws.what_it_builds_keeps_no_graph)
class RemembersTheGraph(StatefulLoss):
    name = "remembers"

    def build(self):
        return Remembering()


class Remembering(nn.Module):
    needs_real = False

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def discriminator(self, real, fake):
        self.mean = 0.5 * self.mean + 0.5 * real.logits.mean()
        return softplus(self.mean - real.logits).mean() + softplus(fake.logits).mean()

    def generator(self, fake, real):
        return softplus(-fake.logits).mean()


@discriminator(laws.what_it_builds_survives_a_round_trip)
class SavesALambda(Net):
    def get_extra_state(self):
        return lambda: None

    def set_extra_state(self, state):
        pass


# --- datasets ---


class SoundDataset(Dataset):
    name = "sound"

    def build(self, root):
        return TensorDataset(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4))


@breaks(laws.items_have_the_promised_form)
class FloatImages(SoundDataset):
    def build(self, root):
        return TensorDataset(torch.zeros(4, 1, 2, 2), torch.arange(4))


@breaks(laws.items_have_the_promised_form)
class LabelsBeyond(SoundDataset):
    def build(self, root):
        data = super().build(root)
        data.classes = ("zero", "one")
        return data


@breaks(laws.items_have_the_promised_form)
class ChannelsLast(SoundDataset):
    def build(self, root):
        return TensorDataset(torch.zeros(4, 8, 8, 3, dtype=torch.uint8))


@breaks(laws.either_works_or_says_why_not)
class CountsOneTooMany(SoundDataset):
    def build(self, root):
        return OneTooMany(torch.zeros(20, 1, 2, 2, dtype=torch.uint8))


class OneTooMany(TensorDataset):
    def __len__(self):
        return 21


@breaks(laws.items_depend_on_their_index_alone)
class ReadsIntoOneBuffer(SoundDataset):
    def build(self, root):
        return OneBuffer(*super().build(root).tensors)


class OneBuffer(TensorDataset):
    buffer = torch.zeros(1, 2, 2, dtype=torch.uint8)

    def __getitem__(self, index):
        return self.buffer.fill_(index), index


@breaks(laws.items_depend_on_their_index_alone)
class FlipsACoin(SoundDataset):
    def build(self, root):
        return CoinFlips(*super().build(root).tensors)


class CoinFlips(TensorDataset):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + torch.randint(0, 255, image.shape, dtype=torch.uint8), label


@breaks(laws.leaves_the_process_as_it_was)
class SetsNumpysSeed(SoundDataset):
    def build(self, root):
        np.random.seed(0)  # that is what is wrong with it
        return super().build(root)


@breaks(laws.parts_are_datasets)
class HoldsOutNothing(SoundDataset):
    def part(self, split):
        return self


@breaks(laws.progress_is_a_rising_share)
class CountsInPercent(SoundDataset):
    def prepare(self, root):
        yield from (0.0, 50.0, 100.0)


# --- regularizers ---


class SoundPenalty(Regularizer):
    name = "sound"
    differentiates = frozenset({"real"})

    def penalty(self, critic, real, fake):
        return self.of(real).square().flatten(1).sum(dim=1).mean()

    def of(self, real, keeps=True):
        return torch.autograd.grad(real.logits.sum(), real.images, create_graph=keeps)[0]


@breaks(laws.gradient_reaches_its_player)
class LosesTheGraph(SoundPenalty):
    def penalty(self, critic, real, fake):
        return self.of(real, keeps=False).square().flatten(1).sum(dim=1).mean()


@breaks(laws.a_penalty_is_the_mean_of_its_parts)
class SumsOverTheBatch(SoundPenalty):
    def penalty(self, critic, real, fake):
        return self.of(real).square().sum()


@breaks(laws.penalties_are_finite_scalars)
class RootOfTheBatch(SoundPenalty):
    whole_batch = True

    def penalty(self, critic, real, fake):
        return self.of(real).square().flatten(1).sum(dim=1).sort().values


@breaks(laws.it_projects_in_place)
class ReplacesWeights(SoundPenalty):
    def project(self, module, strength):
        for part in module.modules():
            if isinstance(part, nn.Linear):
                part.weight = nn.Parameter(part.weight.detach().clamp(-1, 1))


@breaks(laws.strength_keeps_its_range)
class PaysForGradients(SoundPenalty):
    def strength(self, moment):
        return -1.0


# --- augmentations ---


class SoundAugmentation(Augmentation):
    name = "sound"

    def build(self, shape, mirrors):
        return self.apply

    def apply(self, images, strength):
        throw = self.throw(images)
        return torch.where(torch.rand_like(throw) < strength, images + throw, images)

    def throw(self, images):
        return torch.rand(len(images), *(1 for _ in images.shape[1:]), device=images.device)


@breaks(laws.stays_on_its_device)
class ThrowsOnTheCPU(SoundAugmentation):
    def throw(self, images):
        return torch.rand(len(images), *(1 for _ in images.shape[1:]))


@breaks(laws.strength_zero_changes_nothing)
class AlwaysOn(SoundAugmentation):
    def apply(self, images, strength):
        return images + self.throw(images)


@breaks(laws.little_strength_leaves_images_alone)
class OnOrOff(SoundAugmentation):
    def apply(self, images, strength):
        return images + self.throw(images) if strength > 0 else images


@breaks(laws.every_image_is_changed_by_itself)
class OneThrowForAll(SoundAugmentation):
    def apply(self, images, strength):
        chosen = torch.rand_like(self.throw(images)) < strength
        return images + torch.rand((), device=images.device) * chosen


@breaks(laws.output_has_the_promised_shape)
class CropsAway(SoundAugmentation):
    def apply(self, images, strength):
        return super().apply(images, strength)[..., :-1] if images.shape[-1] > 4 else images


@breaks(laws.strength_keeps_its_range)
class MoreThanAll(SoundAugmentation):
    def strength(self, moment):
        return 1.0 + moment.done


@breaks(laws.an_image_does_not_depend_on_its_batch)
class BrightensToTheMean(SoundAugmentation):
    def throw(self, images):
        return super().throw(images) + images.mean() - 0.1


@breaks(laws.gradient_reaches_the_images)
class Rounds(SoundAugmentation):
    def apply(self, images, strength):
        return super().apply(images, strength).detach()


# --- metrics ---


class SoundMetric(Metric):
    name = "sound"
    needs = frozenset({"features", "reference"})
    better = "lower"

    def measure(self, evidence):
        fake, real = evidence.features
        return Measurement(float((fake.double().mean(dim=0) - real.double().mean(dim=0)).norm()))


@breaks(laws.measurements_are_numbers)
class BareNumber(SoundMetric):
    def measure(self, evidence):
        return super().measure(evidence).value


@breaks(laws.measurements_are_numbers)
class LeavesATensor(SoundMetric):
    def measure(self, evidence):
        return Measurement(torch.tensor(super().measure(evidence).value))


@breaks(laws.scores_do_not_depend_on_order)
class FirstHalf(SoundMetric):
    def measure(self, evidence):
        fake, real = evidence.features
        return Measurement(float((fake[: len(fake) // 2].mean(dim=0) - real.mean(dim=0)).norm()))


@breaks(laws.it_looks_only_at_what_it_needs)
class LooksFurther(SoundMetric):
    def measure(self, evidence):
        return Measurement(float((evidence.fake.features - evidence.training.features.mean(dim=0)).norm()))


@breaks(laws.it_says_when_there_are_too_few_images)
class TakesTheThird(SoundMetric):
    def measure(self, evidence):
        fake, _ = evidence.features
        return Measurement(float(fake.sort(dim=0).values[2].norm()))


# --- extractors ---


class Reads(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.layer = nn.Linear(inputs, 3)

    def forward(self, images):
        return Features(self.end(self.layer(images.float().flatten(1) / 255)))

    def end(self, features):
        return features


class SoundExtractor(Extractor):
    name = "sound"
    net: ClassVar[type[nn.Module]] = Reads

    def build(self, shape, num_classes, root):
        return self.net(math.prod(shape))


def extractor(law, *also):
    return holding(SoundExtractor, law, also)


@extractor(laws.output_has_the_promised_shape)
class FlattensAll(Reads):
    def end(self, features):
        return features.unsqueeze(2)


@extractor(laws.an_image_does_not_depend_on_its_batch)
class Whitens(Reads):
    def end(self, features):
        return features - features.mean(dim=0)


@extractor(laws.chance_has_no_say_in_features)
class DropsOutForEver(Reads):
    def end(self, features):
        return nn.functional.dropout(features)


@extractor(laws.same_seed_same_result)
class RandomEyes(Reads):
    def end(self, features):
        return features + random.random()  # noqa: S311  # that is what is wrong with it


# --- observers ---


class Lines(Writer):
    """Numbers as lines of a file."""

    def __init__(self, path):
        self.path = path

    def scalars(self, numbers):
        with self.path.open("a") as lines:
            lines.write("".join(f"{key} {self.said(value)}\n" for key, value in numbers.items()))

    def said(self, value):
        return f"{value:g}"


class SoundObserver(Observer):
    name = "sound"
    writer: ClassVar[type[Lines]] = Lines

    def build(self, run):
        return self.writer(run.folder / "sound.txt")


@breaks(laws.it_bears_whatever_is_told)
class RoundsAll(SoundObserver):
    class writer(Lines):  # noqa: N801  # it stands for an attribute
        def said(self, value):
            return str(round(value))


@breaks(laws.it_bears_whatever_is_told)
class OneFileForEachName(SoundObserver):
    class writer(Lines):  # noqa: N801  # as above
        def scalars(self, numbers):
            for key, value in numbers.items():
                (self.path.parent / f"sound-{key}").write_text(str(value))


@breaks(laws.what_the_run_wrote_stays_as_it_was)
class SignsTheConfig(SoundObserver):
    def build(self, run):
        with (run.folder / "config.toml").open("a") as config:
            config.write("# seen\n")
        return super().build(run)


@breaks(laws.it_joins_a_run_that_goes_on)
class BeginsAnew(SoundObserver):
    def build(self, run):
        (run.folder / "sound").mkdir()
        return self.writer(run.folder / "sound" / "numbers.txt")


@breaks(laws.either_works_or_says_why_not)
class BuildsNothing(SoundObserver):
    def build(self, run):
        return None


SOUND = [
    SoundGenerator,
    SoundDiscriminator,
    SoundLoss,
    SoundDataset,
    SoundPenalty,
    SoundAugmentation,
    SoundMetric,
    SoundExtractor,
    SoundObserver,
]
"""What the broken ones are made of, which breaks no law."""
