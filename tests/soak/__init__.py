"""Kills, power cuts, damaged files and commands at the same time: scripts/soak.sh runs many, test_soak.py a few."""
