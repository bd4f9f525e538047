"""Are two programs equal? By trials in that arithmetic, and by how many digits they keep."""
