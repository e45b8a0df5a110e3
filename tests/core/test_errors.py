import errno

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import (
    CheckpointError,
    ConfigError,
    GancoreError,
    PluginError,
    ResourceError,
    StorageError,
    blame,
    describe_error,
    exhausted,
    unknown_name,
)

NAMES = st.text("abcdefgh-", min_size=3, max_size=12)


@given(NAMES, st.sets(NAMES, max_size=5))
def test_unknown_name_lists_all_known_names_sorted(name, known):
    assert unknown_name("loss", name, known).endswith(f"Known: {', '.join(sorted(known)) or 'none'}")


@given(st.sampled_from(["generator", "discriminator", "batch_size"]), st.data())
def test_unknown_name_suggests_the_intended_name(meant, data):
    gone = data.draw(st.integers(0, len(meant) - 1))
    slip = meant[:gone] + meant[gone + 1 :]
    message = unknown_name("key", slip, ["generator", "discriminator", "batch_size"])
    assert message.startswith(f"unknown key {slip!r}; did you mean {meant!r}?")


def test_unknown_name_suggests_nothing_without_a_near_match():
    assert unknown_name("key", "xyz", ["lr", "betas"]) == "unknown key 'xyz'. Known: betas, lr"


def test_error_str_is_its_message_without_the_hint():
    error = ConfigError("lr must be positive", "use a positive lr")
    assert isinstance(error, GancoreError)
    assert (str(error), error.message, error.hint, error.kept) == (
        "lr must be positive",
        "lr must be positive",
        "use a positive lr",
        "",
    )


class Mute(Exception):  # noqa: N818  # not an error of gancore
    def __init__(self, failure):
        self.failure = failure

    def __str__(self):
        raise self.failure


class Stray(BaseException):
    pass


@pytest.mark.parametrize("failure", [KeyError(), SystemExit(0), KeyboardInterrupt(), Stray()])
def test_describe_error_survives_a_failing_str(failure):
    assert describe_error(Mute(failure)) == f"Mute: (no message: str() raised {type(failure).__name__})"


class Unnamed(type):
    @property
    def __name__(cls):
        raise KeyError


def test_describe_error_is_one_line_of_printable_characters_whatever_the_class():
    assert describe_error(Unnamed("E", (Exception,), {})("a\x1b[2J\nb\udcff")) == r"E: a\x1b[2J b\udcff"
    assert describe_error(type("two\nlines", (Exception,), {})()) == "two lines"


@pytest.mark.parametrize("base", [OSError, MemoryError])
def test_exhausted_survives_a_failing_str(base):
    error = type("Mute", (base,), {"__str__": Mute.__str__, "failure": KeyError()})()
    assert bool(exhausted(error)) == (base is MemoryError)


@pytest.mark.parametrize("raised", [ValueError(), SystemExit(0), Stray()])
def test_blame_turns_any_exception_into_a_plugin_error(raised):
    with (
        pytest.raises(PluginError, match=f"^the loss failed at work: {type(raised).__name__}") as caught,
        blame("loss", "at work"),
    ):
        raise raised
    assert caught.value.part == "loss"
    assert "docs/contract.md" in caught.value.hint


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), GeneratorExit(), ConfigError("wrong")])
def test_blame_lets_interrupts_and_own_errors_pass(raised):
    with pytest.raises(type(raised)), blame("loss"):
        raise raised


def test_blame_adds_a_hint_unless_the_error_has_one():
    for own_hint, hint in (("", "see docs/contract.md"), ("do this", "do this")):
        with pytest.raises(PluginError) as caught, blame("loss"):
            raise PluginError("a loss must be a scalar", own_hint)
        assert caught.value.hint == hint


def _raised(work):
    with pytest.raises((MemoryError, RuntimeError), match="alloc") as caught:
        work()
    return caught.value


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (_raised(lambda: torch.empty(1 << 50)), "memory ran out when 4,503,599,627,370,496 bytes were needed"),
        (MemoryError(), "memory ran out"),
        (_raised(lambda: np.empty(1 << 58)), "memory ran out"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "memory ran out"),
        (OSError(errno.EMFILE, "Too many open files", "a.png"), "files (ulimit -n)"),
        (RuntimeError("unable to open shared memory object </torch_1>: Too many open files (24)"), "(ulimit -n)"),
        (OSError(errno.ENFILE, "Too many open files in system"), "the system has no more open files"),
        (RuntimeError("can't start new thread"), "(ulimit -u)"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB free. See x."),
            "the memory of the device ran out: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB free",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "of the device"),
    ],
)
def test_exhausted_names_what_ran_out(error, words):
    found = exhausted(error)
    assert words in found.message
    assert found.hint
    with pytest.raises(ResourceError, match=r"^loss: ") as caught, blame("loss"):
        raise error
    assert caught.value.__cause__ is error


def test_exhausted_follows_the_cause_of_an_error_that_names_a_file():
    error = StorageError("cannot write to a.png: Too many open files", "check it")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert exhausted(error).message.startswith("cannot write to a.png: Too many open files; this process may open")
    assert exhausted(exhausted(error)).message.count("may open") == 1


@pytest.mark.parametrize(
    ("limits", "words"),
    [((6, 10_000), "-n 4096"), ((6_000, -1), "-n 12000"), ((6, 6), "administrator, as in: ulimit -n 4096")],
)
def test_exhausted_names_a_limit_of_files_above_the_present_one(monkeypatch, limits, words):
    monkeypatch.setattr("resource.getrlimit", lambda _: limits)
    assert words in exhausted(OSError(errno.EMFILE, "Too many open files")).hint


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("out of memory"), RuntimeError("shapes do not fit"), OSError(errno.ENOSPC, "No space left")),
        *(StorageError("x"), KeyboardInterrupt(), SystemError("error return without exception set")),
        BlockingIOError(errno.EAGAIN, "write could not complete without blocking"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),  # of a socket
    ],
)
def test_exhausted_finds_nothing_in_other_errors(error):
    assert exhausted(error) is None


def test_exhausted_finds_nothing_in_the_error_of_a_file_that_says_it_is_huge():
    error = CheckpointError("a is larger than the free memory")
    error.__cause__ = MemoryError()
    assert exhausted(error) is None
