"""The peer `trainer`: transformers' own Trainer and PEFT, with a collator that pads. Started by scripts/bench.py.

    python scripts/peers/with_trainer.py JOB.json        see measuring.py

Reads   the job, its rows of prompt and completion, and the model.
Writes  the report and the adapter that the job names.
"""

from __future__ import annotations

from measuring import IGNORED, Measure, quantization, read_job, tokenized, training_arguments
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
    set_seed,
)


def main() -> None:
    """Train."""
    job = read_job()
    set_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    rows = tokenized(job, tokenizer)
    lora = LoraConfig(task_type="CAUSAL_LM", **job["lora"])
    base = AutoModelForCausalLM.from_pretrained(job["model"], dtype="auto", quantization_config=quantization(job))
    model = get_peft_model(base, lora)
    measure = Measure(job, ["transformers", "peft"])
    arguments = TrainingArguments(**training_arguments(job) | job["options"])
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator, callbacks=[measure])
    measure.run(trainer.train, trainer.save_model)


if __name__ == "__main__":
    main()
