"""LLVM's text: blocks and values, instructions on numbers and vectors, the arguments of a call."""
