"""What a training example is to the model: ids and labels, length policy, batches, and the cache of all that."""
