"""Training of models: pairs of images and labels in, a folder with a model out. Needs torch."""
