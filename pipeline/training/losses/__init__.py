"""Losses by name, one file each; a recipe sums them, a head at a time.

    cross_entropy   of classes; weighted by class, and by the border weights of the U-Net paper
    dice            overlap of classes
    focal           cross-entropy, less for pixels that are right already
    l1, l2, smooth_l1   of distances and flows
    pairwise        near pixels of alike colours are of one class: for scribbles
    tags, seeds     classes from what images show: for tags

`terms` says what a recipe may ask for, and needs no torch.
"""
