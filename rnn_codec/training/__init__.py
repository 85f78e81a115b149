"""What all recipes of training share; it knows no wing."""
