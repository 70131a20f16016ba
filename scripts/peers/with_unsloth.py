"""The peer Unsloth, on a GPU: its loading, adapter and checkpointing, trained by TRL's SFTTrainer as its notebooks do.

    python scripts/peers/with_unsloth.py JOB.json        see measuring.py; "options" are those of SFTConfig

Reads   the job, its rows of prompt and completion, and the model.
Writes  the report and the adapter that the job names. Never run yet: written against the source of 2026.10.9.
"""

from __future__ import annotations

from unsloth import FastLanguageModel  # before transformers, which it changes

# isort: split
import torch
from datasets import Dataset
from measuring import Measure, limit_memory, read_job, tokenized, training_arguments
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Train."""
    job = read_job()
    limit_memory(job)
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=job["model"], max_seq_length=job["max_length"], load_in_4bit=bool(job["quantization"]),
        dtype=torch.bfloat16 if job["bf16"] else None, use_exact_model_name=True, local_files_only=True,
        fix_tokenizer=False,
    )  # fmt: skip
    lora = job["lora"]
    model = FastLanguageModel.get_peft_model(
        model, r=lora["r"], lora_alpha=lora["lora_alpha"], lora_dropout=lora["lora_dropout"],
        target_modules=lora["target_modules"], bias="none", use_gradient_checkpointing="unsloth",
        random_state=job["seed"],
    )  # fmt: skip
    measure = Measure(job, ["transformers", "peft", "trl", "unsloth"])
    trainer = SFTTrainer(
        model=model, processing_class=tokenizer, train_dataset=Dataset.from_list(tokenized(job, tokenizer)),
        args=SFTConfig(**training_arguments(job) | {"max_length": job["max_length"]} | job["options"]),
        callbacks=[measure],
    )  # fmt: skip
    measure.run(trainer.train, trainer.save_model)


if __name__ == "__main__":
    main()
