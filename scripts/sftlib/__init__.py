"""The library under the scripts; layers: docs/SETUP_DOCUMENTATION.md. Imports go down only (tests/test_layers.py)."""
