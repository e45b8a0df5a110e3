"""A folder in the form of the Hugging Face Hub: a description, the weights as safetensors, and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from gancore.errors import ConfigError
from gancore.exporters import ExportedGenerator, Exporter, Facts
from gancore.utils.model_folder import write_model
from gancore_plugins.exporters.hub_card import OBJECT, SAMPLES, Card, Evaluation, write_card

_NOT_MEASURED = "none of this step, so the card has no numbers; gancore evaluate RUN --save measures them for an export"


class HubFolder(Exporter):
    """Folder for the Hugging Face Hub or for gancore.load: config.json, model.safetensors and a model card."""

    name = "hub"
    license: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]{0,99}$")] | None = Field(
        default=None,
        description="license of the weights as the hub names it, such as apache-2.0; absent: none is given",
    )
    title: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="title of the model card; absent: what the generator makes"
    )
    repository: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")] | None = Field(
        default=None, description="USER/NAME on the hub, which the card then names; absent: that of --push"
    )

    def export(self, model: ExportedGenerator, out: Path) -> Facts:
        if model.config["generator"]["name"] == OBJECT:
            raise ConfigError(
                "the generator is a Python object, which the folder cannot build again",
                "make it a component of a plugin: gancore plugins new",
            )
        out.mkdir()
        document = {"config": model.config, "data_format": model.data_format, "about": model.about}
        digest = write_model(out, model.generator.state_dict(), document)
        if model.picture is not None:
            (out / SAMPLES).write_bytes(model.picture)
        evaluation, measured = _evaluation_of(model)
        write_card(out, Card(model, evaluation, self.license, self.title, self.repository))
        return {
            "weights": _weights_of(model),
            "sha256_of_weights_file": digest,
            "license": self.license or "none; name one with --set license, such as apache-2.0",
            "evaluation": measured,
        }


def _weights_of(model: ExportedGenerator) -> str:
    """Return which weights an export has, in words."""
    if not model.about["averaged"]:
        return "the current ones, no average"
    kimg = model.about.get("half_life_kimg")
    return "the average of training (EMA)" + ("" if kimg is None else f", half-life {kimg:g} kimg")


def _evaluation_of(model: ExportedGenerator) -> tuple[Evaluation | None, str]:
    """Return the evaluation of these weights, and what to say of it."""
    if model.evaluation is None:
        return None, _NOT_MEASURED
    if not model.about["averaged"] and model.config.get("ema") is not None:
        return None, "left out of the card: it is of the average (EMA), not of these weights"
    try:
        found = Evaluation.model_validate(model.evaluation)
    except ValidationError:
        return None, "left out of the card: evaluation.json is damaged"
    if not found.metrics:
        return None, _NOT_MEASURED
    return found, f"that of step {model.about['step']:,} is in the card: {', '.join(found.metrics)}"
