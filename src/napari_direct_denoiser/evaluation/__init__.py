"""Evaluation: metrics, comparison of results, domain shift."""
