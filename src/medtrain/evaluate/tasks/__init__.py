"""Tasks by file name; see the contract in `medtrain.evaluate.cases`."""
