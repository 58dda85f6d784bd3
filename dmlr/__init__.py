"""dmlr: latent visual reasoning at test time with frozen vision-language models."""

__version__ = "0.1.0"
