"""The docks: the only place that knows napari and Qt."""
