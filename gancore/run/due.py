"""What is due after a step. Nothing is written here."""

from __future__ import annotations

from dataclasses import dataclass

from gancore.config.run import RunConfig
from gancore.run.log import PendingTask
from gancore.training.loop import Step


@dataclass(frozen=True)
class Due:
    """What is due after a step: a line of the log, tasks, a checkpoint. After the `last` step everything is."""

    log: bool
    tasks: tuple[PendingTask, ...]
    checkpoint: bool
    last: bool


def due_after(step: Step, images_before: int, config: RunConfig) -> Due:
    """Return what is due after `step`; `images_before` is the number of images seen before it."""
    last = step.done >= 1

    def interval_ended(kimg: float) -> bool:
        return int(step.images_seen / (1000 * kimg)) > int(images_before / (1000 * kimg))

    tasks: list[PendingTask] = []
    if interval_ended(config.sample.every_kimg) or last:
        tasks.append("samples")
    evaluate = interval_ended(config.evaluate.every_kimg)
    if evaluate and config.evaluate.on_collapse != "ignore":  # the guard compares whole intervals only
        tasks.append("guarded evaluation")
    elif config.metrics and (evaluate or last):
        tasks.append("evaluation")
    return Due(
        log=step.step % config.log.every_steps == 0 or last,
        tasks=tuple(tasks),
        checkpoint=step.step % config.checkpoint.every_steps == 0 or last,
        last=last,
    )
