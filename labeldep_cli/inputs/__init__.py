"""The seam between data and training: images, features, streamed features."""
