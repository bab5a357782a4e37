"""A system -> predictions -> metrics with intervals -> a report."""
