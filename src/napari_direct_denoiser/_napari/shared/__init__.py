"""Parts that several docks use."""
