"""Programs for other languages: C, and objects with C's calling convention, without Python."""
