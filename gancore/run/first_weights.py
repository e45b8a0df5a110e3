"""The weights that a run starts with, by the option `--init-from`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gancore.checkpoint.weights import StoredWeights, read_weights
from gancore.config.from_path import outline_of
from gancore.config.run import RunConfig
from gancore.config.suggest import Earlier
from gancore.contracts import Spec
from gancore.training.initialize import Initializer


class FirstWeights:
    """Weights at a path, which are read when they are first needed, and once.

    Their config decides values of the run before its networks are built and take the tensors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stored: StoredWeights | None = None

    def read(self) -> StoredWeights:
        """Return the weights, and keep them until `take`. Raises CheckpointError as `read_weights` does."""
        self._stored = self._stored or read_weights(self.path)
        return self._stored

    def take(self) -> StoredWeights:
        """Return the weights, and free the memory once the caller does. Raises as `read`."""
        stored, self._stored = self.read(), None
        return stored

    def earlier(self) -> Earlier:
        """Return what is known of the run that they are of. Raises as `read`."""
        about = self.read().about
        config, form = about.get("config"), about.get("data_format")
        shape = form.get("shape") if isinstance(form, Mapping) else None
        if not isinstance(config, Mapping) or not isinstance(shape, list):
            return Earlier(self.path)
        return Earlier(self.path, config, tuple(shape))


def check_early(start: Initializer, config: RunConfig) -> None:
    """Find out what fits the networks of a run, before its data is read, if the form of the data is known by then.

    The result is in the `lines` of `start`. Raises CheckpointError if nothing fits.
    """
    outline, conditional = outline_of(config.dataset), config.training.conditional
    if outline is not None and (outline.classes or not conditional):
        condition = len(outline.classes) if conditional else None
        spec = Spec(outline.shape, config.latent.dim, condition, width_factor=config.width_factor)
        start.check(spec, outline.classes)
