"""Token shards to one adapter: QLoRA under DeepSpeed inside Ray Train."""
