"""Searching hyper-parameters over any job: a space, a searcher, trials on Ray Tune."""
