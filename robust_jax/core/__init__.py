"""The mathematics and plumbing everything else stands on: keys, norms, meshes, loops."""
