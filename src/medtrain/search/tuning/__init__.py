"""A study on Ray Tune."""
