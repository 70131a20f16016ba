"""The peer LLaMA-Factory: its own `run_exp`, on the text as it is (template `empty`). Started by scripts/bench.py.

    python scripts/peers/with_llamafactory.py JOB.json        see measuring.py; "options" are those of its YAML

Reads   the job, its rows of prompt and completion, and the model.
Writes  the report and the adapter that the job names, and dataset_info.json beside it.
"""

from __future__ import annotations

import json
from pathlib import Path

from llamafactory.train.tuner import run_exp
from measuring import Measure, read_job, training_arguments


def main() -> None:
    """Train."""
    job = read_job()
    folder = Path(job["folder"])
    columns = {"prompt": "prompt", "response": "completion"}
    about = {"rows": {"file_name": job["rows"], "columns": columns}}
    (folder / "dataset_info.json").write_text(json.dumps(about), encoding="utf-8")
    lora = job["lora"]
    measure = Measure(job, ["transformers", "peft", "llamafactory"])
    settings = training_arguments(job) | {
        "stage": "sft", "do_train": True, "model_name_or_path": job["model"], "template": "empty", "dataset": "rows",
        "dataset_dir": str(folder), "cutoff_len": job["max_length"], "finetuning_type": "lora",
        "lora_rank": lora["r"], "lora_alpha": int(lora["lora_alpha"]), "lora_dropout": lora["lora_dropout"],
        "lora_target": ",".join(lora["target_modules"]),
        "output_dir": str(folder / "adapter"),
    }  # fmt: skip
    if quantized := job["quantization"]:
        settings |= {
            "quantization_bit": 4, "quantization_method": "bnb", "quantization_type": quantized["bnb_4bit_quant_type"],
            "double_quantization": quantized["bnb_4bit_use_double_quant"],
        }  # fmt: skip
    # It saves into output_dir itself.
    measure.run(lambda: run_exp(settings | job["options"], [measure]), lambda adapter: None)


if __name__ == "__main__":
    main()
