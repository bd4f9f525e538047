"""Questions about a program, answered without changing it."""
