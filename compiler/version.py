"""The version of spikec, for files that say what made them."""

__all__ = ["VERSION"]

#: Equal to ``project.version`` in pyproject.toml; a test compares them.
VERSION = "0.1.0"
