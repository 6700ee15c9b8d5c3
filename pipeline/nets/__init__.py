"""Networks: what they see, what they need, what they say. Needs `tilewright[nets]`."""
