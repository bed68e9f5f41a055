"""The study of what of a task foretells which method pays."""
