"""The room behind `benchmark.speed`: timed parts, saved measurements, scaling, and precisions compared."""
