"""One file per structured task: how it is asked, how its gold is written as an answer, how an answer is read."""
