"""Weak labels: what is quicker to draw than masks, and what is learned from it.

    scribbles   lines or brush strokes on some pixels of each class; others are not known
    boxes       a box an object; GrabCut makes a mask in each
    tags        which classes an image shows, and nothing of where

Images that have masks are not learned from: they judge.
"""
