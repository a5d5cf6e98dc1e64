"""Preference and utility on one log-odds scale, and the laws that curves over m follow."""
