"""What threads share beside the rows of a loop: copies of sums, blocks of rows, rows that data pick, packs
that they make together.
"""
