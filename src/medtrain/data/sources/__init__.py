"""One file per corpus format; a source's name is its file name."""
