"""The trees of a `Fused` phase into instructions: marked loops, vectors, what stays in registers."""
