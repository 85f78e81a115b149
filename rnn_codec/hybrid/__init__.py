"""The wing around a standard codec: ComCNN, JPEG and its like, RecCNN."""
