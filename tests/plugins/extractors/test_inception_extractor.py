import hashlib
import json
import os
import signal
import threading
import time

import pytest
import torch
from torch import nn
from torch_fidelity import FeatureExtractorInceptionV3

from gancore.errors import ConfigError, DataError
from gancore_cli.main import main
from gancore_plugins.datasets.published import RELEASES, Release
from gancore_plugins.extractors.inception import InceptionExtractor
from helpers.http_servers import answering, in_ranges


class Canary:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


NAME = "weights-inception-2015-12-05-6726825d.pth"
CONTENT = bytes(range(256)) * 64


def weights(root):
    folder = root / "inception"
    folder.mkdir()
    return folder / NAME


def published(monkeypatch, content, *mirrors):
    """Let these bytes be the published weights."""
    files = {NAME: (hashlib.sha256(content).hexdigest(), len(content))}
    monkeypatch.setitem(RELEASES, "inception", Release(mirrors, files))


def fetched(capsys, root, *options, code=0):
    """Run `gancore fetch inception` in this process; return standard output and standard error."""
    with pytest.raises(SystemExit) as ended:
        main(["fetch", "inception", "--data-dir", str(root), *options])
    shown = capsys.readouterr()
    assert ended.value.code == code, shown.err
    return shown.out, shown.err


def test_inception_error_says_where_to_put_missing_weights(tmp_path):
    with pytest.raises(DataError) as caught:
        InceptionExtractor().build((3, 32, 32), None, tmp_path)
    path = tmp_path / "inception" / "weights-inception-2015-12-05-6726825d.pth"
    assert str(path) in caught.value.message
    assert "95,628,359 bytes" in caught.value.message
    assert caught.value.hint.startswith("gancore fetch inception downloads them; without a network, put the file there")


def test_inception_weights_of_another_digest_are_not_opened(tmp_path):
    torch.save({"x": Canary(tmp_path / "canary")}, weights(tmp_path))
    with pytest.raises(DataError, match="is not opened: expected SHA-256 6726825d0af5f729cebd5821db510b11b1cfad8f"):
        InceptionExtractor().build((3, 32, 32), None, tmp_path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("shape", [(4, 8, 8), (2, 8, 8), (7,)])
def test_inception_refuses_images_that_are_not_gray_or_color(tmp_path, shape):
    with pytest.raises(ConfigError, match="images of 1 or 3 channels"):
        InceptionExtractor().build(shape, None, tmp_path)


def test_inception_network_accepts_gray_and_color_images(tmp_path, monkeypatch):
    """The published weights are not part of the tests, so the expected digest is set to that of untrained ones."""
    with monkeypatch.context() as patched:
        patched.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **n: {})
        patched.setattr(nn.Module, "load_state_dict", lambda *a, **n: None)
        untrained = FeatureExtractorInceptionV3("any", ["2048"])
    torch.save(untrained.state_dict(), weights(tmp_path))
    content = (tmp_path / "inception" / "weights-inception-2015-12-05-6726825d.pth").read_bytes()
    published(monkeypatch, content)
    gray = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    module = InceptionExtractor().build((1, 8, 8), None, tmp_path).eval()
    with torch.no_grad():
        output, of_color = module(gray), module(gray.repeat(1, 3, 1, 1))
    assert (output.features.shape, output.logits.shape) == ((2, 2048), (2, 1008))
    assert torch.equal(output.features, of_color.features)


def test_inception_weights_are_fetched_once_and_again_when_damaged(tmp_path, monkeypatch, capsys):
    asked, path = [], tmp_path / "data" / "inception" / NAME
    with answering(in_ranges(CONTENT, asked), monkeypatch) as address:
        published(monkeypatch, CONTENT, address)
        out, err = fetched(capsys, tmp_path / "data")
        assert out == f"{path}: 16,384 bytes, downloaded\n"
        assert "downloading inception: 100%" in err
        assert [file.name for file in path.parent.iterdir()] == [NAME]
        assert fetched(capsys, tmp_path / "data") == (f"{path}: 16,384 bytes, there already, and intact\n", "")
        path.write_bytes(CONTENT[:-1] + b"x")
        out, err = fetched(capsys, tmp_path / "data", "--json", "-q")
    assert path.read_bytes() == CONTENT
    files = [{"path": str(path), "bytes": len(CONTENT)}]
    assert json.loads(out) == {"extractor": "inception", "files": files, "downloaded": True}
    assert err == ""
    assert len(asked) == 2


def test_inception_download_that_is_interrupted_keeps_what_has_arrived_and_continues(tmp_path, monkeypatch, capsys):
    asked = []
    with answering(in_ranges(CONTENT, asked, most=10_000), monkeypatch) as address:
        published(monkeypatch, CONTENT, address)
        _, err = fetched(capsys, tmp_path, code=3)
        *_, error, kept, hint = err.splitlines()
        assert "expected 16,384 bytes, received 10,000" in error
        assert kept == "kept: the first 10,000 bytes, after which the next download continues"
        assert hint.startswith("next: run the same command again")
        fetched(capsys, tmp_path)
    assert asked == [0, 10_000]
    assert (tmp_path / "inception" / NAME).read_bytes() == CONTENT


def test_inception_download_that_the_user_interrupts_says_what_has_arrived(tmp_path, monkeypatch, capsys):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:9000])
        handler.wfile.flush()
        part = tmp_path / "inception" / f".{NAME}.part"
        while not part.exists() or part.stat().st_size < 9000:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.5)  # the connection stays open until the signal has arrived

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with answering(answer, monkeypatch) as address:
            published(monkeypatch, CONTENT, address)
            _, err = fetched(capsys, tmp_path, code=130)
    finally:  # the command leaves its handler until the process ends
        for number, action in before.items():
            signal.signal(number, action)
    *_, error, kept, _ = err.splitlines()
    assert error == "error: interrupted"
    assert kept == "kept: the first 9,000 bytes, after which the next download continues"


def test_inception_download_without_a_network_leaves_no_folder(tmp_path, monkeypatch, capsys):
    with answering(in_ranges(CONTENT, []), monkeypatch) as address:
        pass  # the port is closed again
    published(monkeypatch, CONTENT, address)
    _, err = fetched(capsys, tmp_path / "data", code=3)
    *_, error, kept, hint = err.splitlines()
    assert error.endswith(f"{NAME}: Connection refused")
    assert kept == "kept: nothing was changed"
    assert f"put it at {tmp_path / 'data' / 'inception' / NAME}" in hint
    assert not (tmp_path / "data").exists()


def test_inception_download_of_other_bytes_is_refused(tmp_path, monkeypatch, capsys):
    with answering(in_ranges(CONTENT[:-1] + b"x", []), monkeypatch) as address:
        published(monkeypatch, CONTENT, address)
        _, err = fetched(capsys, tmp_path / "data", code=3)
    assert "expected SHA-256" in err
    assert not (tmp_path / "data").exists()


def test_inception_download_to_a_full_disk_says_so(tmp_path, monkeypatch, capsys):
    (tmp_path / "inception").mkdir()
    (tmp_path / "inception" / f".{NAME}.part").symlink_to("/dev/full")
    with answering(in_ranges(CONTENT, []), monkeypatch) as address:
        published(monkeypatch, CONTENT, address)
        _, err = fetched(capsys, tmp_path, code=7)
    assert "No space left on device" in err
    assert "next: check that the folder exists, is writable, and has free space" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["random"], 0, "extractor random needs no files"),
        (["mnist"], 2, "mnist is a dataset, which is downloaded when it is first read"),
        (["incepton"], 2, "unknown extractor 'incepton'; did you mean 'inception'?"),
        ([], 2, "Missing argument 'EXTRACTOR'"),
    ],
)
def test_fetch_of_another_name_says_what_it_is(capsys, words, code, message):
    with pytest.raises(SystemExit) as ended:
        main(["fetch", *words])
    shown = capsys.readouterr()
    assert ended.value.code == code
    assert message in (shown.err if code else shown.out)
