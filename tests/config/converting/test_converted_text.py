"""The text of a converted config: it reads back as it was meant, and says where each value came from."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from sftlib.config import load_config
from sftlib.config.converting import convert
from sftlib.files import ROOT


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("convert_config", ROOT / "scripts" / "convert_config.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_letter_by_letter(axolotl):
    least = (
        "base_model: org/model\nlearning_rate: 2e-5\nadapter: lora\nlora_r: 8\nwarmup_steps: 10\nwandb_entity: me\n"
        "datasets:\n  - {path: org/talks, type: chat_template, field_messages: talk}\n"
    )
    text = axolotl.convert(least=least).text(Path("y.yaml"))
    lines = text.splitlines()
    assert lines[:2] == [
        "# From x.yml, a config of Axolotl, by scripts/convert_config.py.",
        "# Behind each value stands where it came from: the key and its line there.",
    ]
    assert lines[2].startswith("include: ")
    assert lines[2].endswith("configs/config_base.yaml")
    for line in (
        "model:",
        "  name: org/model                   # base_model, line 1",
        "  max_seq_len: 512                  # Axolotl's default of sequence_len",
        "  lora:",
        "    r: 8                            # lora_r, line 4",
        "    talks:",
        "      path: hf:org/talks            # datasets[0].path, line 8",
        "        messages: talk              # datasets[0].field_messages, line 8",
        "  learning_rate: 2.0e-05            # learning_rate, line 2",
    ):
        assert line in lines
    assert "#   - warmup_steps (x.yml:5): the warm-up is a share of all steps here" in text
    assert "#   - wandb_entity (x.yml:6): taken from WANDB_ENTITY" in text


def test_the_script_writes_it_once(axolotl, script, capsys):
    axolotl.convert()
    arguments = ["--from", "axolotl", "--in", "x.yml", "--out", "configs/y.yaml"]
    assert script.main(arguments) == 0
    shown = capsys.readouterr()
    assert "learning_rate, line 2" in shown.out
    assert "make process CONFIG=configs/y.yaml" in shown.err
    assert load_config("configs/y.yaml").train.learning_rate == 2e-5
    Path("configs/y.yaml").write_text("mine", encoding="utf-8")
    assert script.main(arguments) == 2
    assert "FORCE=1" in capsys.readouterr().err
    assert Path("configs/y.yaml").read_text(encoding="utf-8") == "mine"
    assert script.main([*arguments, "--force"]) == 0
    assert load_config("configs/y.yaml").train.learning_rate == 2e-5


def test_what_is_refused_is_not_written(axolotl, script, capsys):
    axolotl.convert()
    with Path("x.yml").open("a", encoding="utf-8") as stream:
        stream.write("rl: dpo\nadapter: dora\n")
    assert script.main(["--from", "axolotl", "--in", "x.yml", "--out", "y.yaml"]) == 2
    said = capsys.readouterr().err
    assert "x.yml:5: `rl: dpo`" in said
    assert "x.yml:6: `adapter: dora`" in said
    assert not Path("y.yaml").exists()
    assert script.main(["--from", "axolotl", "--in", "nowhere.yml", "--out", "y.yaml"]) == 2
    assert "nowhere.yml: The file cannot be read" in capsys.readouterr().err
    assert script.main(["--from", "axolotl", "--in", "x.yml", "--out", "y.yaml", "--devices", "0"]) == 2


def test_texts_that_yaml_would_read_otherwise(axolotl):
    least = "base_model: '1e5'\nlearning_rate: 1e-4\ndatasets:\n  - {path: org/x, type: chat_template}\n"
    values = axolotl.values(f"{least}default_system_message: 'yes: \"a\" # b'\n", least="")
    assert values["model.name"] == "1e5"
    assert values["data.datasets.x.system"] == 'yes: "a" # b'


def test_devices_reach_the_batch(axolotl):
    axolotl.convert()
    assert convert("axolotl", Path("x.yml"), 4).lines["train.effective_batch_size"].value == 4
