"""CycleGAN: translation between two folders of pictures without pairs.

Both directions are one generator: `forward` makes a target of a source, which is the condition, and `encode` makes a
source of a target. The run's discriminator scores targets; that of sources is a module of the loss, so D's optimizer
trains it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss, softplus
from torch.utils.data import Dataset as TorchDataset

from gancore import Dataset, Generator, Objective, Scores, Spec
from gancore_families.checks import picture_condition, required
from gancore_families.pix2pix import PatchNetwork
from gancore_plugins.datasets.folder import Folder
from gancore_plugins.losses.bce import NonSaturating


class Unpaired(Dataset):
    """Two folders of pictures without pairs: targets, each with an arbitrary source as the condition."""

    name = "unpaired"
    targets: str = Field(description="folder of the pictures to make")
    sources: str = Field(description="folder of the pictures to translate")
    size: int = Field(default=64, ge=1, le=4096, description="height and width in pixels")
    channels: int = Field(default=3, ge=1, le=4, description="1 (gray), 3 (color) or 4 (with transparency)")

    def build(self, root: Path) -> TorchDataset[Any]:  # Any: (target, source)
        targets, sources = (
            Folder.model_validate({"path": path, "size": self.size, "channels": self.channels}).build(root)
            for path in (self.targets, self.sources)
        )
        return _Combinations(targets, sources)


class _Combinations(TorchDataset[Any]):  # Any: (target, source)
    """Every picture of the longer folder once, each with one of the other folder, which repeats."""

    def __init__(self, targets: TorchDataset[Any], sources: TorchDataset[Any]) -> None:
        self.targets, self.sources = targets, sources

    def __len__(self) -> int:
        return max(len(self.targets), len(self.sources))  # type: ignore[arg-type]  # both have a length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        target, source = (each[index % len(each)] for each in (self.targets, self.sources))  # type: ignore[arg-type]  # as above
        return target, source


class Translators(Generator):
    """Two convolutional networks, one for each direction, Zhu et al. 2017 (arXiv:1703.10593)."""

    name = "translators"
    width: int = Field(default=32, ge=1, le=512, description="channels of the hidden layers")
    depth: int = Field(default=2, ge=1, le=16, description="hidden layers between the first and the last")

    def build(self, spec: Spec) -> nn.Module:
        source, target = picture_condition(spec, "generator 'translators'")[0], spec.shape[0]
        output = nn.Tanh() if spec.bounded else nn.Identity()
        return _TranslatorPair(self._network(source, target, output), self._network(target, source, nn.Tanh()))

    def _network(self, inputs: int, outputs: int, output: nn.Module) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels in (inputs, *[self.width] * self.depth):
            layers += [nn.Conv2d(channels, self.width, 3, padding=1), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, nn.Conv2d(self.width, outputs, 3, padding=1), output)


class _TranslatorPair(nn.Module):
    """Sources (N, C, H, W), the condition, to targets; `encode` maps targets to the extra `source`.

    The latent is not used.
    """

    def __init__(self, to_target: nn.Module, to_source: nn.Module) -> None:
        super().__init__()
        self.to_target, self.to_source = to_target, to_source

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        targets: Tensor = self.to_target(condition)
        return targets

    def encode(self, images: Tensor, condition: Tensor) -> Mapping[str, Tensor]:
        return {"source": self.to_source(images)}


class CycleGAN(NonSaturating):
    """BCE in both domains, and cycle consistency, Zhu et al. 2017 (arXiv:1703.10593)."""

    name = "cyclegan"
    needs_real = True
    weight: float = Field(
        default=10.0, ge=0, description="weight of the mean absolute difference after both directions"
    )
    width: int = Field(
        default=32, ge=1, le=512, description="channels of the first layer of the sources' discriminator"
    )

    def build(self, spec: Spec) -> Objective:
        channels = picture_condition(spec, "loss 'cyclegan'")[0]
        return _BothDomains(self, PatchNetwork(channels, self.width, pairs=False))


class _BothDomains(nn.Module):
    """The loss with the discriminator of sources, which D's optimizer trains and G's update freezes."""

    def __init__(self, loss: CycleGAN, of_sources: PatchNetwork) -> None:
        super().__init__()
        self.loss, self.of_sources = loss, of_sources

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        sources = required(real.condition, "sources as the condition")
        made = real.players.encode(real.images, sources)["source"].detach()
        of_real, of_made = self.of_sources(sources), self.of_sources(made)
        return self.loss.discriminator(real, fake) + softplus(-of_real).mean() + softplus(of_made).mean()

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        real, latent = required(real, "the scores of real images"), required(fake.latent, "the latents of fakes")
        players, sources = fake.players, required(real.condition, "sources as the condition")
        made = players.encode(real.images, sources)["source"]
        adversarial = self.loss.generator(fake, real) + softplus(-self.of_sources(made)).mean()
        targets_again = players.generate(latent, made).images
        sources_again = players.encode(fake.images, sources)["source"]
        cycles = l1_loss(sources_again, sources) + l1_loss(targets_again, real.images)
        return adversarial + self.loss.weight * cycles
