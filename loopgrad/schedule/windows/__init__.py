"""Sums and maxima over windows that overlap, and what they spread."""
