"""Work on a machine that is lent for minutes: what to take along, what to do there, and how to take the results in."""
