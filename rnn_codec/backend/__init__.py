"""What computes: compiled functions on Keras' backends, and training on several devices."""
