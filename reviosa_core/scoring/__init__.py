"""Predictions in, numbers out: J and F, whether the roles are right, other benchmarks' protocols, submissions."""
