"""Label images with a trained run."""
