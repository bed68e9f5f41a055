"""All experiments on a few pages of YAML, and the code that validates them."""
