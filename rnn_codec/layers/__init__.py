"""What the networks of several wings are built from."""
