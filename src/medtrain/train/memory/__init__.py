"""The light tier of checkpoints: the last states of a run in the memory of nodes, every few steps.

A holder keeps them as bytes of its own process, outside the workers, so they outlive a worker group; each state lies
on two nodes, rank 0's and the next in the ring, so it outlives a node. Durable checkpoints remain the net below.
"""
