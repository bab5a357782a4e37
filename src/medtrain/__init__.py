"""medtrain: distributed training of small bilingual biomedical language models on Ray."""

__version__ = "0.1.0"
