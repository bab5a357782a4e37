"""Metrics by file name; see the contract in `medtrain.evaluate.intervals.Statistics`."""
