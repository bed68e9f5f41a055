"""Everything that makes a block of updates fast; what it computes stands in the modules above."""
