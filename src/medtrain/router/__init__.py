"""A library of experts and a task's examples to weights of the experts (STAF-LLM, stage II)."""
