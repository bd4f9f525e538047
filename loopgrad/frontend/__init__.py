"""Ways in: text or Python, to the same `Program`."""
