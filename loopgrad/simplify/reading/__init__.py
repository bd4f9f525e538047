"""Programs as such sums: what their statements add, what their definitions say, when two are the same."""
