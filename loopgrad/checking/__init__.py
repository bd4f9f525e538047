"""Is a hand-written backward right? Reading, judging, finding the faults, saying what is right."""
