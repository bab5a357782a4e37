"""A plan of specialties to a library of adapters: one AdaLoRA expert each (STAF-LLM, stage I)."""
