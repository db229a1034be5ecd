"""Attacks over the parameters of a transform, such as rotations and translations."""
