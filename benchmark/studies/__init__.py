"""Studies: what is measured without a verdict, each a named list of runs with tables, pictures and sentences."""
