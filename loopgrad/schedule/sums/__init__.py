"""Sums and values in the form that is least work: factors taken out, values computed once."""
