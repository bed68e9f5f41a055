"""A run as a value, and what remains of it: nothing here imports torch."""
