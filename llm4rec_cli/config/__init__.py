"""Configuration: schema, ranges, overrides and composition; the available models, tasks, commands and plugins."""
