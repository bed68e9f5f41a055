"""`diagnose`: what a task's data look like, which signatures its arms show, and what to switch on."""
