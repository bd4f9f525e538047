"""What a program is: data, the recursion over it, and its text."""
