"""The daemon's answers over HTTP: on its socket, and where it is told to on TCP."""
