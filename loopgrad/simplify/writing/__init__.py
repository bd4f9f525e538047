"""Such sums as statements again: temporaries, groups, factored expressions."""
