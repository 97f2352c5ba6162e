"""Benchmarks of the whole command against what would be used instead, side by side on one server. See README.md here."""
