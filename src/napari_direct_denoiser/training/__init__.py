"""Co-training of HDN and the Direct Denoiser."""
