"""The version of the package, and of nothing else: files have a format version of their own."""

__version__ = "0.8.0"
