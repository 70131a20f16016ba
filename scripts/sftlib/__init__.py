"""The library under the scripts; its layers: docs/SETUP_DOCUMENTATION.md. Imports go down only (tests/test_layers.py)."""
