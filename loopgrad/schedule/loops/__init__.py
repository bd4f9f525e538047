"""Lines into trees of loops: which lines share loops, in which order, over threads and lanes."""
