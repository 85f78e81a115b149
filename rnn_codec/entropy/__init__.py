"""Bits to bytes and back: planes, their probabilities as integers, and the range coder."""
