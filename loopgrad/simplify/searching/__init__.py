"""The way to a cheaper program: relations put to use, sums and values shared, candidates, what they cost."""
