"""The model: store, tokenizer, precision, backend, adapters, the tuned folder and merging."""
