"""Pixel primitives: filters, resampling, geometry, colour, noise fields, JPEG, quantisation. No papers.

Images are ``float32`` of shape ``[h, w, c]`` with values in [0, 1], planes ``[h, w]``. Everything is a pure function
of one image, compiles and vmaps.
"""
