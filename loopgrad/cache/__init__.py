"""What was found out once, kept on disk for other processes (docs/cache.md).

files.py     a private folder of files that are whole, ours and not too many
keys.py      a name for what an answer depends on
answers.py   a function's answer, from the folder where it is there
"""
