"""The libraries of the extra ``export``, which are imported late."""

from __future__ import annotations

from importlib import import_module

from ..errors import SettingError


def require(*modules: str) -> None:
    """Raise `SettingError` if a library is not installed."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise SettingError(
                f"Expected the library {module} for the export of models, found none ({error}): "
                'pip install "napari-direct-denoiser[export]"'
            ) from error
