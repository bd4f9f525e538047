"""Sums of products with bound indices: their parts, their arithmetic, their normal form."""
