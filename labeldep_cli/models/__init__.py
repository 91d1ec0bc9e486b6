"""Backbones, the generator, the discriminator."""
