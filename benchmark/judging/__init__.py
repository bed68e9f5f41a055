"""From records to verdicts: scores, evidence, rank tests, criteria, registration, the baseline gate, exchange."""
