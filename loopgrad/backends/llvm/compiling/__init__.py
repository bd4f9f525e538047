"""Text into machine code: passes, generation in threads of its own, object code on disk."""
