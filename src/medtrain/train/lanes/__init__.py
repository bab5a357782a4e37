"""Lanes: several adapters trained at once over one frozen base on one device, in plain PyTorch.

Each lane is what a run of its own would be (data, AdamW, clipping, schedule, rule, random draws); all share the base's
matrix products and the dequantisation of its weights. One lane is the ordinary case.
"""
