"""The built-in data set `scenes`, whose images are drawn by code."""
