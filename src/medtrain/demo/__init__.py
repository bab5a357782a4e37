"""The embedded default: a small bilingual corpus and a tiny base model, made on the spot."""
