"""Measuring what a model says: generation, metrics, comparisons, reports, and the talk itself."""
