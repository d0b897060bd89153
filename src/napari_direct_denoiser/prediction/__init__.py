"""Prediction: the direct pass and posterior samples, tile by tile."""
