"""The threads of compiled code."""
