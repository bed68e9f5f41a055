"""All that makes a block of updates fast, and nothing that says what it computes."""
