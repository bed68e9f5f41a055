"""What a user does with runs that have been trained: look at their curves, play their policies."""
