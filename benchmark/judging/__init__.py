"""From records to verdicts: evidence, the ledger, registration, the baseline gate, calibration, exchange."""
