"""The bench: our work and that of others on the same rows, in turn, each in a process of its own."""
