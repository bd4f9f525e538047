"""The commands, one file each; every file has a click command named `command`."""
