"""Programs run in exact arithmetic: residues in a chain of finite fields, and reals to 50 digits."""
