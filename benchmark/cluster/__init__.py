"""Runs on a SLURM cluster: what is submitted, what becomes of it, and how it is taken back."""
