"""Blocks over time: what has to run in order, what before and after for all times at once, and scans."""
