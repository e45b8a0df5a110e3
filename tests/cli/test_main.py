"""How the command ends after an error that no part of gancore raises on purpose."""

import pytest

import gancore_cli.main


def failing(capsys, monkeypatch, error, *options):
    """Run a command that fails; return its exit code and the lines of standard error."""

    def fail(**_options):
        raise error

    monkeypatch.setattr(gancore_cli.main.gancore.commands["resume"], "callback", fail)
    monkeypatch.setattr("gancore_cli.startup.begin", lambda: None)
    with pytest.raises(SystemExit) as ended:
        gancore_cli.main.main(["resume", "r", *options])
    return ended.value.code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(("code", "shown"), [(0, "0"), (None, "None"), ("stopped", "'stopped'")])
def test_exit_of_a_plugin_is_an_error_of_the_plugin(capsys, monkeypatch, code, shown):
    ended, lines = failing(capsys, monkeypatch, SystemExit(code))
    assert (ended, lines) == (
        5,
        [
            f"error: a plugin ended the command: SystemExit: {shown}",
            "kept: nothing was changed",
            "next: run it again with -v to see where",
        ],
    )
    ended, lines = failing(capsys, monkeypatch, SystemExit(code), "-v")
    assert (ended, lines[0]) == (5, "Traceback (most recent call last):")


def test_bug_in_gancore_exits_with_1_and_the_traceback(capsys, monkeypatch):
    code, lines = failing(capsys, monkeypatch, RuntimeError("odd"))
    assert (code, lines[0]) == (1, "Traceback (most recent call last):")
    assert "in fail" in "\n".join(lines)
    assert lines[-3:] == [
        "error: a bug in gancore: RuntimeError: odd",
        "kept: nothing was changed",
        "next: report it with the traceback",
    ]
