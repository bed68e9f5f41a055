"""The chain from off-data bootstraps to a runaway temperature on a linear system, every link switched alone."""
