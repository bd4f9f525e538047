"""How a simplified program came about: as chains of equalities, each with its rule, each checked."""
