"""Flat-field correction: (pixel - dark) / flat, by a profile that is given or estimated.

`basic` and `averages` estimate a profile from many pictures, `survey` gathers these from a dataset,
`profiles` reads and writes profiles, and `filter` is the step of a recipe.
"""
