"""A whole tiny model on disk: random Llama, byte-level BPE tokenizer with ChatML markers, template, generation config.

Small enough that the real scripts train, evaluate and merge it in seconds, so that the chain is tested for real.
"""

from __future__ import annotations

from pathlib import Path

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"]
CORPUS = [
    "Step 1: look at the numbers. Step 2: add them. Answer: four.",
    "What is two plus two? Where does the sun rise? How many days has a week?",
    "system user assistant System User Assistant question answer the a an is of and to in",
]


def make_tokenizer(folder: Path, chat_template: str | None = CHATML) -> None:
    """Save a byte-level BPE tokenizer of 400 pieces with ids 0..3 for the special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        pad_token="<pad>",
        unk_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    fast.chat_template = chat_template
    fast.save_pretrained(folder)


def make_model(
    folder: Path, *, seed: int = 0, chat_template: str | None = CHATML, tie: bool = True, layers: int = 2
) -> Path:
    """Save a random Llama (hidden 32, vocabulary 512) with its tokenizer into `folder`; return the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer(folder, chat_template)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=tie, bos_token_id=1, eos_token_id=2,
        pad_token_id=3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
