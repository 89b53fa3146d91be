"""anydose: 3D radiotherapy dose prediction with one Any2Any diffusion model."""

__version__ = "0.1.0"
