"""Two real processes that join: by srun's variables, in a group of the program, and when one stops answering."""

import os
import signal
from socket import socket
from time import sleep

import pytest

from gancore.distributed import join
from gancore.errors import ConfigError, WorkerError
from helpers import joining
from helpers.two_rank_scenarios import environment, fork_server, free_port


@pytest.fixture
def started():
    """Starts a function of `joining` in two processes, with one argument for each; returns them with connections."""
    running, processes = [], fork_server()

    def start(function, *arguments):
        pairs = []
        for rank, argument in enumerate(arguments):
            here, there = processes.Pipe()
            process = processes.Process(target=function, args=(there, rank, argument), daemon=True)
            process.start()
            there.close()
            running.append(process)
            pairs.append((process, here))
        return pairs

    yield start
    for process in running:
        process.kill()
        process.join()


def answers(connection, count):
    """The next answers of a process."""
    found = []
    for _ in range(count):
        assert connection.poll(60), f"no more than {found}"
        found.append(connection.recv())
    return found


def step_of_srun(rank):
    """The variables of a step of two tasks on one machine."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_GTIDS": "0,1"}
    place = {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0"}
    return job | place | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}


SEEN = [(0, 2, 0, 2, [1.0, 1.0], [0, 1, 2]), (1, 2, 1, 2, [1.0, 1.0], [])]


def test_ranks_join_again_and_again_in_one_step_of_srun(started):
    pairs = started(joining.join_three_times, *map(step_of_srun, range(2)))
    assert [answers(connection, 3) for _, connection in pairs] == [[each] * 3 for each in SEEN]


def test_group_of_the_program_gives_the_ranks_and_is_left_as_it_is(started):
    pairs = started(joining.join_in_groups, *[free_port()] * 2)
    assert [answers(connection, 6) for _, connection in pairs] == [[each, each, True] * 2 for each in SEEN]


def test_ranks_with_the_same_gpu_are_refused(started):
    port = free_port()
    pairs = started(joining.compare_devices, *(environment(rank, 2, port) for rank in range(2)))
    said = [answers(connection, 2) for _, connection in pairs]
    assert said == [["each process needs its own GPU; processes 0 and 1 have the same H200", ""]] * 2


def use(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_port_that_is_in_use_is_named(monkeypatch):
    with socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        use(environment(0, 2, port), monkeypatch)
        with (
            pytest.raises(ConfigError, match=f"process 0 cannot listen at port {port}: ") as error,
            join.join_ranks("cpu"),
        ):
            pass
    assert error.value.hint == "set MASTER_PORT to a free port, the same for all processes"


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_that_is_alone_says_who_has_not_come(monkeypatch, rank):
    monkeypatch.setattr(join, "_JOIN_TIMEOUT_S", 0.2)
    port = free_port()
    use(environment(rank, 2, port), monkeypatch)
    place = f" at 127.0.0.1:{port} " if rank else " "
    with pytest.raises(WorkerError, match=f"process 1 has not reached process 0{place}"), join.join_ranks("cpu"):
        pass


@pytest.fixture
def both(started):
    """Two ranks that answer."""
    port = free_port()
    pairs = started(joining.answer, *(environment(rank, 2, port) for rank in range(2)))
    assert [answers(connection, 1) for _, connection in pairs] == [["joined"]] * 2
    return pairs


def send(number, *pairs):
    for process, _ in pairs:
        os.kill(process.pid, number)


def test_ranks_that_are_suspended_together_continue_and_one_that_is_stopped_ends_the_other(both):
    (_, main), (_, other) = both
    main.send(True)
    assert answers(main, 1) == answers(other, 1) == [1]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in both if number == signal.SIGCONT else reversed(both):  # rank 0 sees that rank 1 stands still
            send(number, process)
            sleep(0.15)
        sleep(1.2)  # more than the time without an answer that is allowed
    main.send(True)
    assert answers(main, 1) == answers(other, 1) == [1]
    send(signal.SIGSTOP, both[1])
    main.send(True)
    assert answers(main, 1) == [
        "process 1 has not answered for 1 seconds: it is stopped, or its machine or network is down"
    ]
    both[0][0].join(60)
    assert both[0][0].exitcode == 0


def test_rank_0_that_is_stopped_ends_the_other_although_it_hosts_the_store(both):
    send(signal.SIGSTOP, both[0])
    (message,) = answers(both[1][1], 1)
    assert message.startswith("process 1: process 0 has not answered for 1 seconds")
    both[1][0].join(60)
    assert both[1][0].exitcode == 0


def test_process_on_cuda_exits_when_a_rank_does_not_answer(started, tmp_path):
    port = free_port()
    pairs = started(joining.wait_for_a_gpu, *((port, tmp_path / str(rank)) for rank in range(2)))
    assert [answers(connection, 1) for _, connection in pairs] == [["beating"]] * 2
    send(signal.SIGSTOP, pairs[1])
    pairs[0][0].join(60)
    assert pairs[0][0].exitcode == 9
    assert [line.split(":")[0] for line in (tmp_path / "0").read_text().splitlines()] == ["error", "kept", "next"]
