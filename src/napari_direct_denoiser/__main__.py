"""``python -m napari_direct_denoiser`` is the command ``direct-denoiser``."""

from .cli import main

if __name__ == "__main__":
    main()
