"""Launchers: programs that start the processes of a run, and the environment variables by which they number them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from zlib import crc32

from gancore.errors import ConfigError

_FIRST_PORT, _PORTS = 15000, 15000
"""Ports that no system gives to a connection by itself."""


@dataclass(frozen=True)
class Launcher:
    """A program that starts processes. The four variables number them in the run, and on their machine.

    `job` are variables that all processes of a run have in common, and no other run of this machine.
    """

    name: str
    rank: str
    size: str
    local: str
    local_size: str
    job: tuple[str, ...] = ()


TORCHRUN = Launcher("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
SRUN = Launcher(
    "srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_GTIDS", ("SLURM_JOB_ID", "SLURM_STEP_ID")
)
_SRUN_NODE, _SRUN_TASKS = "SLURM_NODEID", "SLURM_STEP_TASKS_PER_NODE"
"""Variables that show whether those of `SRUN` are this process's own: its machine, and the tasks on each machine."""
_MPIRUN = (
    Launcher(
        "mpirun of Open MPI",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        ("PMIX_NAMESPACE",),
    ),
    Launcher("mpiexec of MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
)


@dataclass(frozen=True)
class Launch:
    """What a launcher says of this process: `rank` of `size`, number `local` of `local_size` on its machine.

    Rank 0 listens at `host` and `port`. `local_size` is 0 if the launcher says nothing about the machine.
    """

    launcher: str
    rank: int
    size: int
    local: int = 0
    local_size: int = 0
    host: str = ""
    port: int = 0


def is_launched() -> bool:
    """Return whether a launcher has started this process, as one of several or to be started again."""
    launcher = _launcher()
    return "TORCHELASTIC_RUN_ID" in os.environ or (launcher is not None and os.environ[launcher.size] != "1")


def find_launch() -> Launch | None:
    """Return what the environment variables of a launcher say; None if no launcher has started this process.

    Raises ConfigError for variables that contradict each other or are incomplete, and if the address of rank 0 cannot
    be known.
    """
    launcher = _launcher()
    if launcher is None:
        _check_leftovers()
        return None
    rank, size = _number(launcher.rank), _number(launcher.size)
    local, local_size = _place(launcher)
    if not (0 <= rank < size and 0 <= local <= rank and (local < local_size <= size or not local_size)):
        names = [launcher.rank, launcher.size, launcher.local, launcher.local_size]
        raise ConfigError(
            f"{', '.join(names)} must number the processes of a run; received "
            f"{', '.join(f'{name}={os.environ.get(name)}' for name in names)}",
            f"start with {launcher.name}, which sets them, or unset them",
        )
    if size == 1:
        return Launch(launcher.name, 0, 1)
    return Launch(launcher.name, rank, size, local, local_size, *_address(launcher, local_size == size))


def local_place() -> tuple[int, int]:
    """Return the number of this process on its machine and how many there are, by its launcher; 0 and 0 if unknown."""
    return _place(_launcher() or TORCHRUN)


def first_host(nodes: str) -> str:
    """Return the first host of a list as SLURM writes it: `gpu[03-05,9],login1` begins with `gpu03`."""
    first = re.match(r"(?:\[[^]]*\]|[^,[])*", nodes)
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", first[0] if first else "")


def _launcher() -> Launcher | None:
    """Return the launcher that has started this process.

    torchrun's variables win, since scripts set them by hand too. mpirun uses srun to reach other machines, and so comes
    before it. A batch script and a shell in an allocation of SLURM have variables of the job, but not those of a step.
    """
    if TORCHRUN.rank in os.environ and TORCHRUN.size in os.environ:
        return TORCHRUN
    complete = [
        each
        for each in (*_MPIRUN, SRUN)
        if all(name in os.environ for name in (each.rank, each.size, each.local, each.local_size))
    ]
    return next((each for each in complete if each is not SRUN or _is_started_by_srun()), None)


def _is_started_by_srun() -> bool:
    """Return whether the variables of a step are those of this process, and not inherited from another step.

    `sbatch` in a step passes its variables on to the batch script, where slurmd sets only some of them anew.
    `srun --pty` starts a shell in a terminal; what is typed there is one process, however large the step. In a step
    below that shell SLURM_PTY_PORT is still set, but no task has a terminal.
    """
    tasks = re.findall(r"(\d+)(?:\(x(\d+)\))?", os.environ.get(_SRUN_TASKS, ""))  # as in 3(x2),1
    on_nodes = [int(count) for count, times in tasks for _ in range(int(times or 1))]
    node = _number(_SRUN_NODE)
    if not 0 <= node < len(on_nodes) or on_nodes[node] != _local_size_of_srun():
        return False
    is_in_shell = "SLURM_PTY_PORT" in os.environ and os.environ.get("SLURM_TASK_PID") != str(os.getpid())
    return not (is_in_shell and _has_terminal())


def _local_size_of_srun() -> int:
    return len(os.environ[SRUN.local_size].split(","))


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _check_leftovers() -> None:
    """Raise ConfigError for a part of a launcher's variables, by which several processes could make unrelated runs."""
    given = [name for name in (TORCHRUN.rank, TORCHRUN.size) if name in os.environ]
    if given and os.environ.get(TORCHRUN.size) != "1":
        missing = TORCHRUN.size if given == [TORCHRUN.rank] else TORCHRUN.rank
        raise ConfigError(
            f"{given[0]}={os.environ[given[0]]} is set and {missing} is not, so the number of this process is unknown",
            f"start with torchrun, which sets both, or unset {given[0]} to train with one process",
        )
    deciding = (SRUN.rank, SRUN.local, SRUN.local_size, _SRUN_NODE, _SRUN_TASKS)
    absent = [name for name in deciding if name not in os.environ]
    if _number(SRUN.size) > 1 and absent and not given:
        raise ConfigError(
            f"{SRUN.size}={os.environ[SRUN.size]} is set and {' and '.join(absent)} not, so the number of this process "
            "is unknown",
            f"start with {SRUN.name}, which sets all; for one process: RANK=0 WORLD_SIZE=1 before the command",
        )


def _place(launcher: Launcher) -> tuple[int, int]:
    """Return the number of this process on its machine, and how many there are; 0 and 0 if that is unknown."""
    if launcher is SRUN:
        return _number(SRUN.local), _local_size_of_srun()
    if launcher.local not in os.environ:
        return 0, 0
    local = _number(launcher.local)
    return local, _number(launcher.local_size) if launcher.local_size in os.environ else local + 1


def _address(launcher: Launcher, is_one_machine: bool) -> tuple[str, int]:
    """Return host and port of rank 0: what MASTER_ADDR and MASTER_PORT say, else what the launcher says."""
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not host and is_one_machine and launcher is not TORCHRUN:
        host = "127.0.0.1"
    elif not host and launcher is SRUN:
        host = first_host(os.environ.get("SLURM_STEP_NODELIST", ""))
    if not port and launcher.job:
        job = " ".join(os.environ.get(name, "") for name in launcher.job)
        port = str(_FIRST_PORT + crc32(job.encode()) % _PORTS)
    missing = [name for name, value in (("MASTER_ADDR", host), ("MASTER_PORT", port)) if not value]
    if missing:
        example = {"MASTER_ADDR": "HOST_OF_RANK_0", "MASTER_PORT": "29500"}
        raise ConfigError(
            f"{launcher.name} started {os.environ[launcher.size]} processes, which cannot find each other: "
            f"{' and '.join(missing)} must be set",
            f"{' '.join(f'export {name}={example[name]}' for name in missing)}, the same for all processes",
        )
    if not (port.isdecimal() and 0 < int(port) < 1 << 16):
        raise ConfigError(f"MASTER_PORT must be a port from 1 to 65535; received {port!r}", "export MASTER_PORT=29500")
    return host, int(port)


def _number(name: str) -> int:
    """Return the number in a variable; -1 without one."""
    try:
        return int(os.environ.get(name, ""))
    except ValueError:
        return -1
