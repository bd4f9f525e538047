"""At home in other frameworks: a program as a differentiable function of theirs."""
