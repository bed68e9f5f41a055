"""Three kinds of run side by side, `train`, `fit` and `probe`, and `ensure`, which sees to all that are missing."""
