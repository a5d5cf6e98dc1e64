"""Steering on conditions: similarities, thresholds, rules, and what a gate reaches."""
