"""Which sums are products of matrices, and what makes products of others."""
