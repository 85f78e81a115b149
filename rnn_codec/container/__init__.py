"""The `.rnnc` file: header, chunks and checksums."""
