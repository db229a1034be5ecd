"""Norms, projections, Lp sampling, Poisson draws and mixtures: formulas without papers or plumbing."""
