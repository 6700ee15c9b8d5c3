"""Region adjacency graphs: which regions touch, what they are like, and merging them."""
