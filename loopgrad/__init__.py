"""loopgrad turns small loop programs written with `+=` into gradients and kernels."""
