"""More rows out of those there are, and other forms of them: pure functions on conversations, and what joins them.

systems (messages out of a pool, personas), turns (long answers in several), structure (Markdown by rule), tags and
guard (no literal chat tags), rewriting, endpoint and answers (answers said anew by a model elsewhere); augmenting
joins them for a file.
"""
