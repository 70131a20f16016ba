"""The peer TRL: SFTTrainer on rows of prompt and completion, as its documentation has it. Started by scripts/bench.py.

    python scripts/peers/with_trl.py JOB.json        see measuring.py; "options" are those of SFTConfig

Reads   the job, its rows of prompt and completion, and the model.
Writes  the report and the adapter that the job names.
"""

from __future__ import annotations

from datasets import load_dataset
from measuring import Measure, limit_memory, quantization, read_job, training_arguments
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Train."""
    job = read_job()
    limit_memory(job)
    measure = Measure(job, ["transformers", "peft", "trl"])
    trainer = SFTTrainer(
        job["model"],
        SFTConfig(**training_arguments(job) | {"max_length": job["max_length"]} | job["options"]),
        train_dataset=load_dataset("json", data_files=job["rows"], split="train"),
        quantization_config=quantization(job),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **job["lora"]),
        callbacks=[measure],
    )
    measure.loss_of = trainer.compute_loss
    measure.run(trainer.train, trainer.save_model)


if __name__ == "__main__":
    main()
