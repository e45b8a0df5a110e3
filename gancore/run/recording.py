"""Recording: a run's log, evaluations, pictures and checkpoints, written and told while its steps go by."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass

from gancore.catalog.catalog import Catalog
from gancore.checkpoint import store as checkpoint
from gancore.config.run import RunConfig
from gancore.errors import ConfigError, GancoreError, NonFiniteError, NumericsError, StorageError
from gancore.evaluation.evaluator import Evaluation, Evaluator
from gancore.run.directory import RunDirectory
from gancore.run.interrupt import Interruption
from gancore.run.lockstep import Coordinator
from gancore.run.log import Recorded, forget_after, recorded_in
from gancore.run.recorder import Metrics, Recorder
from gancore.training.gan import GAN
from gancore.training.loop import Step, train
from gancore.training.recovery import count_or_raise, roll_back


@dataclass(frozen=True)
class Record:
    """A step, and what was written down after it: a line of the log, an evaluation, warnings, or none of these."""

    step: Step
    metrics: Metrics | None = None
    evaluation: Evaluation | None = None
    warnings: tuple[str, ...] = ()


def record(
    steps: Iterator[Step],
    gan: GAN,
    run: RunConfig,
    directory: RunDirectory,
    catalog: Catalog,
    evaluator: Evaluator | None = None,
    *,
    since: Recorded | None = None,
    interruption: Interruption | None = None,
) -> Generator[Record, None, None]:
    """Writes log, evaluations, samples and checkpoints while the steps go by, and hands each step on.

    Whatever was due or not, the last step leaves all of them; one that is not the last leaves a checkpoint if nobody
    asks for more after it, an interruption arrives, or something fails that is done beside the steps. What is done here
    changes nothing in the run. `evaluator` must be prepared, and is needed if the run has metrics. The run's observers
    are told of all that is written; close the iterator to tell them of the end before the last step. `since` is what
    the checkpoint that the GAN was restored from says of its recording. Of several ranks, this is rank 0's part; the
    others `follow`.
    Raises StorageError when something cannot be written, NumericsError when the run is to stop at a collapse, and
    NonFiniteError, which is one too, when numbers are not finite and `training.on_nonfinite` does not say to go on.
    """
    if run.metrics and evaluator is None:
        raise ConfigError("the run has metrics, and nothing was given that measures them", "give an evaluator")
    lead = Coordinator(gan.ranks)
    recorder = Recorder(gan, run, directory, catalog, evaluator, since, interruption or Interruption(), lead)
    with lead.leading(), recorder.audience.present():
        while True:
            try:
                yield from _recorded(steps, recorder, lead)
                return
            except NonFiniteError as error:
                _go_back(gan, directory, recorder, error)
            with recorder.held():
                lead.back()
                steps = train(gan)


def _go_back(gan: GAN, directory: RunDirectory, recorder: Recorder, error: NonFiniteError) -> None:
    """To the newest sound checkpoint, if `training.on_nonfinite` is `rollback`; raises the error else.

    So it does beyond the limit, and where there is no checkpoint yet.
    """
    if gan.options.training.on_nonfinite != "rollback":
        raise error
    found = checkpoint.newest_valid(directory.checkpoints).checkpoint
    if found is None:
        raise error
    often = count_or_raise(gan, error)
    roll_back(gan, found)
    since = recorded_in(found.about, directory.path)
    forget_after(directory.metrics, gan.progress.step, since.lines)
    recorder.rewind(since, f"{error}; back at step {gan.progress.step} with other noise, {often}")


def _recorded(steps: Iterator[Step], recorder: Recorder, lead: Coordinator) -> Iterator[Record]:
    try:
        recorder.begin()
        while True:
            recorder.check()
            with recorder.held():
                with lead.step():
                    step = next(steps, None)
                if step is None:
                    return
                metrics = recorder.take(step)
            evaluation = recorder.settle()
            if step.done >= 1:
                recorder.audience.end("finished")
            yield Record(step, metrics, evaluation, recorder.warnings())
    except (KeyboardInterrupt, GeneratorExit):
        if lead.between:  # a step that an error has torn is not taken for one that was made
            with recorder.held():
                recorder.save_once()
        raise
    except (NumericsError, StorageError):  # there is nothing sound to be saved, or nowhere to save it
        raise
    except Exception:  # such as a metric's, after a step that is whole
        if lead.between:
            with recorder.held(), suppress(GancoreError):
                recorder.save_once()
        raise
