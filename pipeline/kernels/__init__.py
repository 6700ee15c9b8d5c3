"""Compiled kernels: pure functions of arrays, the same for every window that holds an object."""
