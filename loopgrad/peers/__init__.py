"""A program for other libraries, to compare with: who computes the same, and how long it takes.

`literal.py` and `arrays.py` say a program as Python source, for numba and for libraries of arrays;
`contenders.py` makes functions of that; `timing.py` calls them in turn.
"""
