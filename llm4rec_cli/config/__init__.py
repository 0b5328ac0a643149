"""Configuration: schema, ranges, overrides and composition."""
