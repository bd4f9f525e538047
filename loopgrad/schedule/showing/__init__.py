"""A scheduled program for its reader: in the notation, with what it costs."""
