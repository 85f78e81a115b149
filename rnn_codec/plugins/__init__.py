"""Other people's frameworks that can use the codec."""
