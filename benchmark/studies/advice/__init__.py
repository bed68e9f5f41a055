"""What `diagnose` advises, judged by training with and without it on environments it was not developed on."""
