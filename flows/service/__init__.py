"""The service: a server, workers and schedules that run for weeks, from one configuration."""
