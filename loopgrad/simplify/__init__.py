"""Algebra with proof: programs into smaller equal ones."""
