"""Training: log-probabilities of the supervised tokens, the loss, the trainer, its callbacks, its checkpoints."""
