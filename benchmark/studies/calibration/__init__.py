"""How often the rules of the claims decide, on scores of a known truth."""
