"""Training: device settings, recipes, `fit` with resume, run folders and their records."""
