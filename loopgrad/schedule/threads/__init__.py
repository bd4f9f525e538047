"""What threads share beside the rows of a loop: copies of sums, rows that data pick, packs made together."""
