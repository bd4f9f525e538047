"""Ways out: a program becomes a kernel that is called with NumPy arrays."""
