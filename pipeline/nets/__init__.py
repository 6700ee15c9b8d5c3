"""Networks: what they compute, on which windows, and what makes tiles exact."""
