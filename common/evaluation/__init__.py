"""Evaluation: predictions, metrics of classification with their uncertainty, saliency maps."""
