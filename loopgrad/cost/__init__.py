"""What a program costs: work, span, bytes and memory, as formulas in its extents (docs/cost.md)."""
