"""The study of what synthetic rows do to critics and policies."""
