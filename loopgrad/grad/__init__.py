"""Differentiation: Program -> Program."""
