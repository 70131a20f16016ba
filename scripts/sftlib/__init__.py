"""The library under the scripts. Layers and rooms: docs/SETUP_DOCUMENTATION.md; imports go down only (tests/test_layers.py)."""
