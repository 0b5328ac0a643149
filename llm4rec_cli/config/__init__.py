"""What can be set: types, ranges, how overrides are read and composed, and the rules that a config keeps."""
