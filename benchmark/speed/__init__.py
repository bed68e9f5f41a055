"""What a step costs: timed parts, saved measurements, scaling, and precisions compared."""
