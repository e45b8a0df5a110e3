"""Components that break one law each, with the law that must report it."""

import math
import random
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import TensorDataset

from gancore import testing as laws
from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Output, Regularizer
from gancore.exporters import Exporter
from gancore.metrics import Extractor, Features, Measurement, Metric
from gancore.observers import Observer, Writer

BROKEN = []
"""Pairs of a component and the names of the laws that it breaks, the one that it demonstrates first."""


def breaks(law, *also):
    def register(component):
        BROKEN.append((component, [law.__name__, *(other.__name__ for other in also)]))
        return component

    return register


class Net(nn.Module):
    """A correct network, with or without a condition."""

    def __init__(self, inputs, outputs, condition=None, tanh=True):
        super().__init__()
        self.layer = nn.Linear(inputs, math.prod(outputs))
        self.of_condition = None
        if isinstance(condition, int):
            self.of_condition = nn.Embedding(condition, inputs)
        elif condition is not None:
            self.of_condition = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(condition), inputs))
        self.outputs, self.tanh = outputs, tanh

    def forward(self, batch, condition=None):
        batch = batch.flatten(1)
        if self.of_condition is not None:
            batch = batch + self.of_condition(condition)
        return self.finish(self.layer(batch))

    def finish(self, out):
        return (out.tanh() if self.tanh else out).unflatten(1, self.outputs)


class CorrectGenerator(Generator):
    name = "correct"
    net: ClassVar[type[nn.Module]] = Net

    def build(self, spec):
        return self.net(spec.latent_dim, spec.shape, spec.condition, tanh=spec.bounded)


class CorrectDiscriminator(Discriminator):
    name = "correct"
    net: ClassVar[type[nn.Module]] = Net

    def build(self, spec):
        return self.net(math.prod(spec.shape), (1,), spec.condition, tanh=False)


def with_network(base, law, also):
    """Return a decorator that makes a component of the base with the decorated network."""

    def make(net):
        body = {"net": net, "__annotations__": {"net": ClassVar[type]}, "__module__": __name__, "name": net.__name__}
        return breaks(law, *also)(type(net.__name__, (base,), body))

    return make


def generator(law, *also):
    return with_network(CorrectGenerator, law, also)


def discriminator(law, *also):
    return with_network(CorrectDiscriminator, law, also)


# --- generators ---


@breaks(laws.output_has_the_promised_shape)
class WideIsWrong(CorrectGenerator):
    name = "wide-is-wrong"
    width: int = Field(default=8, ge=1, le=64)

    def build(self, spec):
        first, *rest = spec.shape
        wrong = (first, *rest) if self.width <= 12 else (first + 1, *rest)
        layers = [nn.Linear(spec.latent_dim, self.width), nn.ReLU(), nn.Linear(self.width, math.prod(wrong))]
        return nn.Sequential(*layers, nn.Tanh() if spec.bounded else nn.Identity(), nn.Unflatten(1, wrong))


@generator(laws.gradient_reaches_every_parameter)
class Detached(Net):
    def finish(self, out):
        return super().finish(out).detach()


@generator(laws.same_seed_same_result)
class UsesPythonsRandomNumbers(Net):
    def finish(self, out):
        return super().finish(out + random.random())  # noqa: S311  # the mistake that this class demonstrates


@generator(laws.inputs_are_not_modified)
class ChangesItsLatent(Net):
    def forward(self, batch, condition=None):
        return super().forward(batch.mul_(0.5), condition)


@generator(laws.state_dict_round_trips)
class CountsItsCalls(Net):
    calls = 0

    def finish(self, out):
        self.calls += 1
        return super().finish(out + 0.1 * self.calls)


@generator(laws.stays_on_its_device)
class MakesNoiseOnTheCPU(Net):
    def finish(self, out):
        return super().finish(out + torch.zeros(out.shape[1], device="cpu"))


@generator(laws.stays_in_single_precision)
class LeaksDoubles(Net):
    def finish(self, out):
        return super().finish(out.double() * 0.5)


@generator(laws.accepts_a_batch_of_one)
class SqueezesTheBatch(Net):
    def finish(self, out):
        return super().finish(out.squeeze(0))


@generator(laws.samples_are_independent_in_evaluation)
class AlwaysNormalizes(Net):
    def finish(self, out):
        return super().finish(out - out.mean(dim=0))


@generator(laws.images_are_in_range)
class Unbounded(Net):
    def finish(self, out):
        return 3 + out.unflatten(1, self.outputs)


@generator(laws.images_are_in_range)
class EndsInASigmoid(Net):
    def finish(self, out):
        return out.sigmoid().unflatten(1, self.outputs)


@generator(laws.latent_changes_the_images)
class DrawsItsOwnLatent(Net):
    def forward(self, batch, condition=None):
        return super().forward(torch.randn_like(batch), condition)


@generator(laws.condition_changes_the_images)
class IgnoresItsCondition(Net):
    def forward(self, batch, condition=None):
        unused = 0 if self.of_condition is None else 0 * self.of_condition(condition).sum()
        return self.finish(self.layer(batch.flatten(1))) + unused


@generator(laws.truncation_ends_at_one_image)
class TruncatesToHalf(Net):
    def truncated(self, latent, truncation, condition=None):
        return self((0.5 + 0.5 * truncation) * latent, *(() if condition is None else (condition,)))


@generator(laws.truncation_ends_at_one_image)
class TruncatesAWhole(Net):
    def truncated(self, latent, truncation, condition=None):
        return self(0.9 * truncation * latent, *(() if condition is None else (condition,)))


@breaks(laws.config_round_trips)
class DoublesWidthInValidation(CorrectGenerator):
    name = "doubles-width"
    width: int = Field(default=8, ge=1)

    @field_validator("width")
    @classmethod
    def double(cls, value):
        return 2 * value

    def build(self, spec):
        last = nn.Tanh() if spec.bounded else nn.Identity()
        layers = [nn.Linear(spec.latent_dim, self.width), nn.Linear(self.width, math.prod(spec.shape))]
        return nn.Sequential(*layers, last, nn.Unflatten(1, spec.shape))


@generator(laws.errors_are_config_or_data_errors)
class RaisesIndexError(Net):
    def finish(self, out):
        if out.shape[1] < 100:
            raise IndexError("not enough pixels")
        return super().finish(out)


# --- discriminators ---


@discriminator(laws.output_has_the_promised_shape)
class LogitsWithoutK(Net):
    def finish(self, out):
        return out.mean(dim=1)


@discriminator(laws.output_has_the_promised_shape)
class FeaturesWithoutBatch(Net):
    def finish(self, out):
        return Output(out, features=(out.mean(dim=0),))


@discriminator(laws.logits_are_not_probabilities)
class GivesProbabilities(Net):
    def finish(self, out):
        return out.sigmoid()


@discriminator(laws.preflight_detects_sample_mixing)
class ComparesInLargeBatches(Net):
    def finish(self, out):
        return out - out.mean(dim=0) if len(out) >= 16 else out


@discriminator(laws.gradient_reaches_the_images)
class DetachesImages(Net):
    def forward(self, batch, condition=None):
        return super().forward(batch.detach(), condition)


@discriminator(laws.gradient_reaches_every_parameter)
class HasAnUnusedLayer(Net):
    def __init__(self, *arguments, **others):
        super().__init__(*arguments, **others)
        self.unused = nn.Linear(2, 2)


@discriminator(laws.same_seed_same_result)
class UsesNumpysRandomNumbers(Net):
    def finish(self, out):
        return out + np.random.rand()  # the mistake that this class demonstrates


@discriminator(laws.stays_on_its_device, laws.state_dict_round_trips)  # one mistake breaks both
class HoldsAPlainTensor(Net):
    def __init__(self, *arguments, **others):
        super().__init__(*arguments, **others)
        self.offset = torch.randn(1)

    def finish(self, out):
        return out + self.offset


@discriminator(laws.process_state_is_not_modified)
class DetectsAnomalies(Net):
    def forward(self, batch, condition=None):
        torch.autograd.set_detect_anomaly(True)
        return super().forward(batch, condition)


@generator(laws.dropout_follows_the_mode)
class KeepsItsDropout(Net):
    def finish(self, out):
        return super().finish(nn.functional.dropout(out, 0.2))


@discriminator(laws.dropout_follows_the_mode)
class NeverDrops(Net):
    def forward(self, batch, condition=None):
        return super().forward(nn.functional.dropout(batch, 0.2, training=False), condition)


@discriminator(laws.condition_changes_the_logits)
class IgnoresTheClass(Net):
    def forward(self, batch, condition=None):
        unused = 0 if self.of_condition is None else 0 * self.of_condition(condition).sum()
        return self.finish(self.layer(batch.flatten(1))) + unused


@discriminator(laws.gradient_reaches_every_parameter, laws.gradient_reaches_the_images)  # one mistake breaks both
class ChangesWhatAGradientNeeds(Net):
    def finish(self, out):
        activated = out.exp()
        return activated.mul_(0.5).log()


@discriminator(laws.process_state_is_not_modified)
class SeedsTorchInBuild(Net):
    def __init__(self, *arguments, **others):
        torch.manual_seed(0)
        super().__init__(*arguments, **others)


# --- losses ---


class CorrectLoss(Loss):
    name = "correct"

    def discriminator(self, real, fake):
        return softplus(-real.logits).mean() + softplus(fake.logits).mean()

    def generator(self, fake, real):
        return softplus(-fake.logits).mean()


@breaks(laws.losses_are_finite_scalars)
class LogOfSigmoid(CorrectLoss):
    def generator(self, fake, real):
        return -fake.logits.sigmoid().log().mean()


@breaks(laws.losses_are_finite_scalars)
class LossPerImage(CorrectLoss):
    def generator(self, fake, real):
        return softplus(-fake.logits).mean(dim=1).sort().values


@breaks(laws.loss_gradient_reaches_the_scores)
class DetachedLoss(CorrectLoss):
    def generator(self, fake, real):
        return super().generator(fake, real).detach()


@breaks(laws.loss_gradient_reaches_the_scores)
class IgnoresRealImages(CorrectLoss):
    def discriminator(self, real, fake):
        return softplus(fake.logits).mean()


@breaks(laws.losses_oppose_each_other)
class RewardsFakes(CorrectLoss):
    def discriminator(self, real, fake):
        return softplus(-real.logits).mean() - softplus(fake.logits).mean()


@breaks(laws.losses_oppose_each_other)
class PushesRealAndFakeAlike(CorrectLoss):
    def discriminator(self, real, fake):
        return (1 - real.logits).relu().mean() + (1 - fake.logits).relu().mean()


@breaks(laws.losses_oppose_each_other)
class SubtractsASquare(CorrectLoss):
    def discriminator(self, real, fake):
        return (real.logits - 1).square().mean() - fake.logits.square().mean()

    def generator(self, fake, real):
        return (fake.logits - 1).square().mean()


@breaks(laws.losses_oppose_each_other)
class HelpsTheDiscriminator(CorrectLoss):
    def generator(self, fake, real):
        return fake.logits.mean()


@breaks(laws.generator_loss_is_attached_to_the_fakes)
class DetachesFeatures(CorrectLoss):
    needs_real = True

    def generator(self, fake, real):
        distance = (fake.features[0].detach().mean(dim=0) - real.features[0].mean(dim=0)).square().sum()
        return super().generator(fake, real) + distance


@breaks(laws.gradient_reaches_every_parameter)
class UsesItsNetworkInTheGeneratorStep(Loss):
    name = "uses-its-network-in-the-generator-step"

    def build(self, spec):
        return CodeReader(math.prod(spec.shape), spec.latent_dim)


class CodeReader(nn.Module):
    def __init__(self, inputs, codes):
        super().__init__()
        self.q = nn.Sequential(nn.Flatten(), nn.Linear(inputs, codes))

    def discriminator(self, real, fake):
        return softplus(-real.logits).mean() + softplus(fake.logits).mean()

    def generator(self, fake, real):
        return softplus(-fake.logits).mean() + (self.q(fake.images) - fake.latent).square().mean()


@breaks(laws.errors_are_config_or_data_errors)
class ReadsRealImagesWithoutNeedingThem(CorrectLoss):
    def generator(self, fake, real):
        return softplus(real.logits - fake.logits).mean()


@breaks(laws.state_dict_round_trips)
class KeepsItsMeanInAPlainObject(Loss):
    name = "keeps-its-mean-in-a-plain-object"

    def build(self, spec):
        return PlainMean()


class PlainMean:
    mean = 0.0

    def discriminator(self, real, fake):
        self.mean = 0.5 * self.mean + 0.5 * float(real.logits.detach().mean())
        return softplus(self.mean - real.logits).mean() + softplus(fake.logits).mean()

    def generator(self, fake, real):
        return softplus(-fake.logits).mean()


@breaks(laws.loss_does_not_grow_with_the_batch)
class SumsOverImages(CorrectLoss):
    def discriminator(self, real, fake):
        return softplus(-real.logits).mean() + softplus(fake.logits).sum()


@breaks(laws.process_state_is_not_modified)
class SetsTheSeed(CorrectLoss):
    def generator(self, fake, real):
        torch.manual_seed(0)
        return super().generator(fake, real)


@breaks(laws.batch_order_does_not_matter)
class UsesOnlyTheFirstImage(CorrectLoss):
    def generator(self, fake, real):
        return softplus(-fake.logits[0]).mean()


@breaks(laws.stays_on_its_device)
class TargetsOnTheCPU(CorrectLoss):
    def generator(self, fake, real):
        return (fake.logits - torch.ones(fake.logits.shape)).square().mean()


@breaks(laws.inputs_are_not_modified)
class HalvesInPlace(CorrectLoss):
    def generator(self, fake, real):
        return softplus(-fake.logits.mul_(0.5)).mean()


@breaks(laws.accepts_a_batch_of_one)
class ComparesPairs(CorrectLoss):
    def generator(self, fake, real):
        distances = nn.functional.pdist(fake.logits)
        return super().generator(fake, real) - distances.max() * 1e-3


@breaks(laws.accepts_a_batch_of_one)
class VarianceOfOneImage(CorrectLoss):
    def discriminator(self, real, fake):
        centered = real.logits - real.logits.mean(dim=0)
        spread = centered.square().sum(dim=0) / (len(centered) - 1)
        return super().discriminator(real, fake) + 1e-3 * spread.mean()


@breaks(laws.state_dict_round_trips)
class MeanIsNotSaved(Loss):
    name = "mean-is-not-saved"

    def build(self, spec):
        return UnsavedMean()


class UnsavedMean(nn.Module):
    needs_real = False
    mean = 0.0

    def discriminator(self, real, fake):
        self.mean = 0.5 * self.mean + 0.5 * float(real.logits.detach().mean())
        return softplus(self.mean - real.logits).mean() + softplus(fake.logits).mean()

    def generator(self, fake, real):
        return softplus(-fake.logits).mean()


@breaks(laws.state_holds_no_graph)
class MeanKeepsTheGraph(Loss):
    name = "mean-keeps-the-graph"

    def build(self, spec):
        return AttachedMean()


class AttachedMean(nn.Module):
    needs_real = False

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def discriminator(self, real, fake):
        self.mean = 0.5 * self.mean + 0.5 * real.logits.mean()
        return softplus(self.mean - real.logits).mean() + softplus(fake.logits).mean()

    def generator(self, fake, real):
        return softplus(-fake.logits).mean()


@discriminator(laws.state_dict_round_trips)
class SavesALambda(Net):
    def get_extra_state(self):
        return lambda: None

    def set_extra_state(self, state):
        pass


# --- datasets ---


class CorrectDataset(Dataset):
    name = "correct"

    def build(self, root):
        return TensorDataset(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4))


@breaks(laws.items_have_the_promised_format)
class DoublePrecisionImages(CorrectDataset):
    def build(self, root):
        return TensorDataset(torch.zeros(4, 1, 2, 2).double(), torch.arange(4))


@breaks(laws.items_have_the_promised_format)
class ValuesOutOfRange(CorrectDataset):
    def build(self, root):
        data = TensorDataset(torch.linspace(0, 2, 16).view(4, 1, 2, 2), torch.arange(4))
        data.value_range = (0.0, 1.0)
        return data


@breaks(laws.items_have_the_promised_format)
class ConstantColumnWithoutScale(CorrectDataset):
    def build(self, root):
        data = TensorDataset(torch.tensor([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]]))
        data.scales = data.tensors[0].mean(dim=0), data.tensors[0].std(dim=0)
        return data


@breaks(laws.items_have_the_promised_format)
class ScalesOfOtherData(CorrectDataset):
    def build(self, root):
        data = TensorDataset(torch.rand(4, 2))
        data.scales = torch.full((2,), 1e9), torch.ones(2)
        return data


@breaks(laws.items_have_the_promised_format)
class ColumnWithoutName(CorrectDataset):
    def build(self, root):
        data = TensorDataset(torch.rand(4, 2))
        data.columns = ("age",)
        return data


@breaks(laws.items_have_the_promised_format)
class LabelsOutOfRange(CorrectDataset):
    def build(self, root):
        data = super().build(root)
        data.classes = ("zero", "one")
        return data


@breaks(laws.items_have_the_promised_format)
class ChannelsLast(CorrectDataset):
    def build(self, root):
        return TensorDataset(torch.zeros(4, 8, 8, 3, dtype=torch.uint8))


@breaks(laws.errors_are_config_or_data_errors)
class LengthIsTooLarge(CorrectDataset):
    def build(self, root):
        return LengthPlusOne(torch.zeros(20, 1, 2, 2, dtype=torch.uint8))


class LengthPlusOne(TensorDataset):
    def __len__(self):
        return 21


@breaks(laws.items_depend_only_on_their_index)
class SharesOneBuffer(CorrectDataset):
    def build(self, root):
        return OneBuffer(*super().build(root).tensors)


class OneBuffer(TensorDataset):
    buffer = torch.zeros(1, 2, 2, dtype=torch.uint8)

    def __getitem__(self, index):
        return self.buffer.fill_(index), index


@breaks(laws.items_depend_only_on_their_index)
class AddsNoise(CorrectDataset):
    def build(self, root):
        return NoisyImages(*super().build(root).tensors)


class NoisyImages(TensorDataset):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + torch.randint(0, 255, image.shape, dtype=torch.uint8), label


@breaks(laws.process_state_is_not_modified)
class SetsNumpysSeed(CorrectDataset):
    def build(self, root):
        np.random.seed(0)  # the mistake that this class demonstrates
        return super().build(root)


@breaks(laws.parts_are_different_datasets)
class TestPartIsTheTrainingPart(CorrectDataset):
    def part(self, split):
        return self


@breaks(laws.progress_rises_from_0_to_1)
class CountsInPercent(CorrectDataset):
    def prepare(self, root):
        yield from (0.0, 50.0, 100.0)


# --- regularizers ---


class CorrectPenalty(Regularizer):
    name = "correct"
    differentiates = frozenset({"real"})

    def penalty(self, real, fake):
        return self.gradient(real).square().flatten(1).sum(dim=1).mean()

    def gradient(self, real, create_graph=True):
        return torch.autograd.grad(real.logits.sum(), real.images, create_graph=create_graph)[0]


@breaks(laws.penalty_gradient_reaches_its_network)
class DetachedPenalty(CorrectPenalty):
    def penalty(self, real, fake):
        return self.gradient(real, create_graph=False).square().flatten(1).sum(dim=1).mean()


@breaks(laws.penalty_is_a_mean_over_the_batch)
class SumsOverTheBatch(CorrectPenalty):
    def penalty(self, real, fake):
        return self.gradient(real).square().sum()


@breaks(laws.penalties_are_finite_scalars)
class PenaltyPerImage(CorrectPenalty):
    whole_batch = True

    def penalty(self, real, fake):
        return self.gradient(real).square().flatten(1).sum(dim=1).sort().values


@breaks(laws.project_works_in_place)
class ReplacesWeights(CorrectPenalty):
    def project(self, module, strength):
        for part in module.modules():
            if isinstance(part, nn.Linear):
                part.weight = nn.Parameter(part.weight.detach().clamp(-1, 1))


@breaks(laws.strength_is_in_range)
class NegativeStrength(CorrectPenalty):
    def strength(self, time):
        return -1.0


# --- augmentations ---


class CorrectAugmentation(Augmentation):
    name = "correct"

    def build(self, spec):
        return self.apply

    def apply(self, images, strength):
        change = self.draw(images)
        return torch.where(torch.rand_like(change) < strength, images + change, images)

    def draw(self, images):
        return torch.rand(len(images), *(1 for _ in images.shape[1:]), device=images.device)


@breaks(laws.stays_on_its_device)
class DrawsOnTheCPU(CorrectAugmentation):
    def draw(self, images):
        return torch.rand(len(images), *(1 for _ in images.shape[1:]))


@breaks(laws.strength_zero_changes_nothing)
class ChangesAtStrengthZero(CorrectAugmentation):
    def apply(self, images, strength):
        return images + self.draw(images)


@breaks(laws.low_strength_leaves_images_unchanged)
class ChangesAllImages(CorrectAugmentation):
    def apply(self, images, strength):
        return images + self.draw(images) if strength > 0 else images


@breaks(laws.images_are_augmented_independently)
class SameChangeForAllImages(CorrectAugmentation):
    def apply(self, images, strength):
        chosen = torch.rand_like(self.draw(images)) < strength
        return images + torch.rand((), device=images.device) * chosen


@breaks(laws.output_has_the_promised_shape)
class ShrinksImages(CorrectAugmentation):
    def apply(self, images, strength):
        return super().apply(images, strength)[..., :-1] if images.shape[-1] > 4 else images


@breaks(laws.strength_is_in_range)
class StrengthAboveOne(CorrectAugmentation):
    def strength(self, time):
        return 1.0 + time.done


@breaks(laws.samples_are_independent_in_evaluation)
class BrightensToTheMean(CorrectAugmentation):
    def draw(self, images):
        return super().draw(images) + images.mean() - 0.1


@breaks(laws.gradient_reaches_the_images)
class DetachesAugmented(CorrectAugmentation):
    def apply(self, images, strength):
        return super().apply(images, strength).detach()


@breaks(laws.gradient_reaches_the_images)
class RoundsImages(CorrectAugmentation):
    def apply(self, images, strength):
        augmented = super().apply(images, strength)
        return torch.where(augmented == images, images, (augmented * 255).round() / 255)


@breaks(laws.gradient_reaches_the_images, laws.stays_on_its_device)  # one mistake breaks both
class ConvertsToNumpy(CorrectAugmentation):
    def apply(self, images, strength):
        return super().apply(torch.from_numpy(images.numpy()), strength)


# --- metrics ---


class CorrectMetric(Metric):
    name = "correct"
    needs = frozenset({"features", "reference"})
    better = "lower"

    def measure(self, inputs):
        fake, real = inputs.features
        return Measurement(float((fake.double().mean(dim=0) - real.double().mean(dim=0)).norm()))


@breaks(laws.measurements_are_numbers)
class BareNumber(CorrectMetric):
    def measure(self, inputs):
        return super().measure(inputs).value


@breaks(laws.measurements_are_numbers)
class LeavesATensor(CorrectMetric):
    def measure(self, inputs):
        return Measurement(torch.tensor(super().measure(inputs).value))


@breaks(laws.batch_order_does_not_matter)
class UsesTheFirstHalf(CorrectMetric):
    def measure(self, inputs):
        fake, real = inputs.features
        return Measurement(float((fake[: len(fake) // 2].mean(dim=0) - real.mean(dim=0)).norm()))


@breaks(laws.needs_lists_all_inputs_used)
class UsesTrainingImages(CorrectMetric):
    def measure(self, inputs):
        return Measurement(float((inputs.fake.features - inputs.training.features.mean(dim=0)).norm()))


@breaks(laws.too_few_images_raise_data_error)
class NeedsThreeImages(CorrectMetric):
    def measure(self, inputs):
        fake, _ = inputs.features
        return Measurement(float(fake.sort(dim=0).values[2].norm()))


@breaks(laws.damaged_images_score_worse)
class PrefersTheLargerDistance(CorrectMetric):
    better = "higher"


# --- extractors ---


class Linear(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.layer = nn.Linear(inputs, 3)

    def forward(self, images):
        return Features(self.finish(self.layer(images.float().flatten(1) / 255)))

    def finish(self, features):
        return features


class CorrectExtractor(Extractor):
    name = "correct"
    net: ClassVar[type[nn.Module]] = Linear

    def build(self, shape, num_classes, root):
        return self.net(math.prod(shape))


def extractor(law, *also):
    return with_network(CorrectExtractor, law, also)


@extractor(laws.output_has_the_promised_shape)
class FeaturesOfThreeDimensions(Linear):
    def finish(self, features):
        return features.unsqueeze(2)


@extractor(laws.samples_are_independent_in_evaluation)
class Whitens(Linear):
    def finish(self, features):
        return features - features.mean(dim=0)


@extractor(laws.features_are_deterministic)
class DropoutInEvaluation(Linear):
    def finish(self, features):
        return nn.functional.dropout(features)


@extractor(laws.same_seed_same_result)
class RandomFeatures(Linear):
    def finish(self, features):
        return features + random.random()  # noqa: S311  # the mistake that this class demonstrates


# --- observers ---


class Lines(Writer):
    """Writes numbers as lines of a file."""

    def __init__(self, path):
        self.path = path

    def scalars(self, numbers):
        with self.path.open("a") as lines:
            lines.write("".join(f"{key} {self.format(value)}\n" for key, value in numbers.items()))

    def format(self, value):
        return f"{value:g}"


class CorrectObserver(Observer):
    name = "correct"
    writer: ClassVar[type[Lines]] = Lines

    def build(self, run):
        return self.writer(run.folder / "correct.txt")


@breaks(laws.handles_unusual_events)
class RoundsNumbers(CorrectObserver):
    class writer(Lines):  # noqa: N801  # overrides a class attribute
        def format(self, value):
            return str(round(value))


@breaks(laws.handles_unusual_events)
class OneFilePerName(CorrectObserver):
    class writer(Lines):  # noqa: N801  # as above
        def scalars(self, numbers):
            for key, value in numbers.items():
                (self.path.parent / f"number-{key}").write_text(str(value))


@breaks(laws.run_files_are_not_modified)
class ChangesTheConfig(CorrectObserver):
    def build(self, run):
        with (run.folder / "config.toml").open("a") as config:
            config.write("# observed\n")
        return super().build(run)


@breaks(laws.handles_a_resumed_run)
class ExpectsANewFolder(CorrectObserver):
    def build(self, run):
        (run.folder / "correct").mkdir()
        return self.writer(run.folder / "correct" / "numbers.txt")


@breaks(laws.keeps_its_files_on_resume)
class BeginsItsFileAnew(CorrectObserver):
    class writer(Lines):  # noqa: N801  # as above
        def __init__(self, path):
            super().__init__(path)
            path.write_text("")


@breaks(laws.writes_only_in_the_run_folder)
class WritesInTheWorkingDirectory(CorrectObserver):
    def build(self, run):
        return self.writer(Path("correct.txt"))


@breaks(laws.writes_only_in_the_run_folder)
class WritesNextToTheRun(CorrectObserver):
    def build(self, run):
        return self.writer(run.folder.with_suffix(".txt"))


@breaks(laws.errors_are_config_or_data_errors)
class BuildsNothing(CorrectObserver):
    def build(self, run):
        return None


# --- exporters ---


class CorrectExporter(Exporter):
    name = "correct"
    suffix = ".csv"

    def export(self, model, out):
        images = model.module(*model.draw_inputs(2)).detach()
        out.write_text("\n".join(str(image.mean().item()) for image in images))
        return {"images": len(images)}


@breaks(laws.export_leaves_the_generator_unchanged)
class HalvesTheWeights(CorrectExporter):
    def export(self, model, out):
        for weight in model.generator.parameters():
            weight.data.mul_(0.5)
        return super().export(model, out)


@breaks(laws.export_leaves_the_generator_unchanged)
class TrainsTheGenerator(CorrectExporter):
    def export(self, model, out):
        model.generator.train()
        return super().export(model, out)


@breaks(laws.export_leaves_the_generator_unchanged)
class FreezesTheGenerator(CorrectExporter):
    def export(self, model, out):
        model.generator.requires_grad_(False)
        return super().export(model, out)


@breaks(laws.export_is_one_complete_path)
class WritesASecondFile(CorrectExporter):
    def export(self, model, out):
        out.with_suffix(".json").write_text("{}")
        return super().export(model, out)


@breaks(laws.export_is_one_complete_path)
class WritesNothing(CorrectExporter):
    def export(self, model, out):
        return {}


@breaks(laws.export_is_one_complete_path)
class WritesAnEmptyFolder(CorrectExporter):
    suffix = ""

    def export(self, model, out):
        out.mkdir()
        return {}


@breaks(laws.export_is_one_complete_path)
class ReturnsATensorAsAFact(CorrectExporter):
    def export(self, model, out):
        return super().export(model, out) | {"mean": torch.zeros(1)}


CORRECT = [
    CorrectGenerator,
    CorrectDiscriminator,
    CorrectLoss,
    CorrectDataset,
    CorrectPenalty,
    CorrectAugmentation,
    CorrectMetric,
    CorrectExtractor,
    CorrectObserver,
    CorrectExporter,
]
"""The correct components that the broken ones derive from."""
