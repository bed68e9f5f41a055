"""The study of both factors, carry and scale, on every task."""
