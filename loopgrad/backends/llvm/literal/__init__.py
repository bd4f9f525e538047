"""Statements as they stand, each under loops of its own: what a schedule does not understand."""
