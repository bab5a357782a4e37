"""One file per cleaning rule; a rule's name is its file name."""
