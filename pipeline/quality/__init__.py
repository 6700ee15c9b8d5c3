"""The quality of images: what is measured of every plane of every channel, and what is flagged.

`sums` adds up a shard's pixels when they are read, `spectrum` takes the power of a few blocks,
`table` makes rows of the sums of all shards, and `flags` compares the rows of a dataset.

References
----------
Bray, Fraser, Hasaka, Carpenter, Workflow and metrics for image quality control in large-scale
high-content screens, 2012, doi:10.1177/1087057111420292
"""
