"""The 19 corruptions of ImageNet-C (Hendrycks & Dietterich, arXiv 1903.12261)."""
