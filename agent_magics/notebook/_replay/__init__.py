"""Recorded turns: written to files, and shown again."""
