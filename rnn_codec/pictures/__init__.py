"""Pictures: files to arrays and back, and how far two of them are apart."""
