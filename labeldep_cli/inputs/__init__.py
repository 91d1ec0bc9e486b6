"""The interface between data and training: images, features in memory, streamed features."""
