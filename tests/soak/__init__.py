"""Kills, power cuts, damaged files and commands at the same time, by scripts/soak.sh before a release."""
