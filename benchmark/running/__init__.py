"""What `runner` stands on: leases, progress, provenance, workers, counted cost, the status table."""
