"""Neural networks: models, what they look at, and how they are evaluated."""
