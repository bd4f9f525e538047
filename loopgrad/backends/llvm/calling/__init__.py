"""Calls of compiled code from Python, and the sizes that code is made for."""
