"""The environment variables of launchers: what decides rank and size, and what does not."""

import os
import pty
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.distributed.launchers import Launch, find_launch, first_host, is_launched
from gancore.errors import ConfigError

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
ADDRESS = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"}
JOB = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "gpu[07-08]"}
BATCH = JOB | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_GTIDS": "0", "SLURM_NODEID": "0"}
STEP = BATCH | {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_GTIDS": "2,3",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
ALL_HERE = {"SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_NODEID": "0", "SLURM_GTIDS": "0,1,2,3"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_NAMESPACE": "prterun-host-1@1",
}
ON_TWO_MACHINES = OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"}
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "OMPI_", "PMI", "MPI_", "TORCHELASTIC_")


def among(variables):
    """Replace the variables of launchers by these."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(NAMES)}
    return patch.dict(os.environ, others | variables, clear=True)


ALONE = {
    "nothing": {},
    "an allocation of SLURM": JOB,
    "a batch script of SLURM": BATCH,
    "a batch script that was sent from a step": STEP | BATCH,
    "a step of one task": STEP
    | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_GTIDS": "0"}
    | {"SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": "1"},
    "one process in a step": STEP | {"RANK": "0", "WORLD_SIZE": "1"},
    "accelerate with one process": {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"},
    "one process of mpirun": OPEN_MPI
    | {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
    | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"},
}


@pytest.mark.parametrize("where", ALONE)
def test_process_that_no_launcher_started_as_one_of_several_is_alone(where):
    with among(ALONE[where]):
        launch = find_launch()
        assert launch is None or launch.size == 1
        assert not is_launched()


SEVERAL = {
    "torchrun": (TORCHRUN | ADDRESS, (1, 2, 1, 2, "10.0.0.1", 1234)),
    "torchrun in a step of srun": (STEP | TORCHRUN | ADDRESS, (1, 2, 1, 2, "10.0.0.1", 1234)),
    "a pod of Kubeflow": ({"RANK": "1", "WORLD_SIZE": "2", **ADDRESS}, (1, 2, 0, 0, "10.0.0.1", 1234)),
    "srun on several machines": (STEP, (3, 4, 1, 2, "gpu07", None)),
    "srun in a shell of srun --pty": (STEP | {"SLURM_PTY_PORT": "41000"}, (3, 4, 1, 2, "gpu07", None)),
    "srun with an address": (STEP | ADDRESS, (3, 4, 1, 2, "10.0.0.1", 1234)),
    "srun on one machine": (STEP | ALL_HERE | {"SLURM_LOCALID": "3"}, (3, 4, 3, 4, "127.0.0.1", None)),
    "mpirun": (OPEN_MPI, (1, 2, 1, 2, "127.0.0.1", None)),
    "mpirun, which uses srun": (STEP | OPEN_MPI, (1, 2, 1, 2, "127.0.0.1", None)),
    "mpiexec of MPICH": (MPICH | ADDRESS, (1, 2, 0, 1, "10.0.0.1", 1234)),
}


@pytest.mark.parametrize("how", SEVERAL)
def test_launcher_gives_rank_size_place_and_address(how):
    variables, (*numbers, port) = SEVERAL[how]
    with among(variables):
        launch = find_launch()
        assert [launch.rank, launch.size, launch.local, launch.local_size, launch.host] == numbers
        assert launch.port == port or (port is None and 15000 <= launch.port < 30000)
        assert is_launched()


def test_port_is_that_of_all_processes_of_a_step_and_of_no_other():
    def port(**changes):
        with among(STEP | changes):
            return find_launch().port

    assert port() == port(SLURM_PROCID="2", SLURM_LOCALID="0")
    assert len({port(), port(SLURM_STEP_ID="1"), port(SLURM_JOB_ID="78")}) == 3


REFUSED = {
    "no address": (TORCHRUN, "torchrun started 2 processes.*MASTER_ADDR and MASTER_PORT must be set"),
    "no port": (TORCHRUN | {"MASTER_ADDR": "10.0.0.1"}, "MASTER_PORT must be set"),
    "mpirun on several machines": (ON_TWO_MACHINES, "mpirun of Open MPI started 2 .*MASTER_ADDR must be set"),
    "a number that is none": (TORCHRUN | ADDRESS | {"MASTER_PORT": "http"}, "MASTER_PORT must be a port"),
    "a size without a rank": ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set and RANK is not"),
    "a rank without a size": ({"RANK": "1"}, "RANK=1 is set and WORLD_SIZE is not"),
    "a step without the tasks of its machines": (
        {name: STEP[name] for name in STEP if name not in ("SLURM_STEP_TASKS_PER_NODE", "SLURM_NODEID")},
        "SLURM_STEP_NUM_TASKS=4 is set and SLURM_NODEID and SLURM_STEP_TASKS_PER_NODE not",
    ),
    "a rank beyond the size": (STEP | {"SLURM_PROCID": "4"}, "must number the processes"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_variables_from_which_the_run_cannot_be_known_are_refused(what):
    variables, message = REFUSED[what]
    with among(variables), pytest.raises(ConfigError, match=message):
        find_launch()


@pytest.mark.parametrize(
    "name", ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_GTIDS", "SLURM_NODEID", "SLURM_STEP_TASKS_PER_NODE"]
)
def test_step_of_several_tasks_needs_every_deciding_variable(name):
    rest = {each: value for each, value in STEP.items() if each != name}
    with among(rest), pytest.raises(ConfigError, match=f"{name} not, so the number of this process is unknown"):
        find_launch()
    with among(rest | {"RANK": "0", "WORLD_SIZE": "1"}):
        assert find_launch() == Launch("torchrun", 0, 1)
    with among(rest | {"SLURM_STEP_NUM_TASKS": "1"}):
        assert find_launch() is None


HOSTS = {
    "login1": "login1",
    "gpu[03-05,9],login1": "gpu03",
    "gpu3,gpu[7-8]": "gpu3",
    "rack[1-2]n[07,9]-ib": "rack1n07-ib",
    "": "",
}


@pytest.mark.parametrize("nodes", HOSTS)
def test_first_host_of_a_list_of_slurm(nodes):
    assert first_host(nodes) == HOSTS[nodes]


@given(st.text("abc-", min_size=1), st.integers(0, 99), st.integers(1, 4), st.sampled_from(["", "x", "-ib"]))
def test_first_host_of_a_range_has_its_first_number_with_its_zeros(prefix, start, width, suffix):
    first = f"{start:0{width}}"
    assert first_host(f"{prefix}[{first}-{start + 5:0{width}},200]{suffix},other[1-2]") == f"{prefix}{first}{suffix}"


def test_command_in_a_shell_of_srun_is_alone_and_the_command_of_srun_is_not():
    """A terminal tells them apart, and which process srun started."""
    process, terminal = pty.fork()
    if not process:  # has a terminal, as the shell of srun --pty
        with among(STEP | {"SLURM_PTY_PORT": "41000", "SLURM_TASK_PID": "1"}):
            in_shell = find_launch()
        with among(STEP | {"SLURM_PTY_PORT": "41000", "SLURM_TASK_PID": str(os.getpid())}):
            of_srun = find_launch()
        os._exit(0 if in_shell is None and of_srun is not None and of_srun.size == 4 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    os.close(terminal)


def test_launch_of_one_process_needs_no_address():
    with among({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}):
        assert find_launch() == Launch("torchrun", 0, 1)
