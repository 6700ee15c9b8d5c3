"""Networks: what they compute, how far they look, and the folders that hold them. Needs torch."""
