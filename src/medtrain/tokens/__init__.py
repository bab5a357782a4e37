"""Records become token shards: ChatML text, the loss mask, the length rule, and the shard format."""
