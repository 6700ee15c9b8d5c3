"""How well labels agree with a truth: exact counts a tile, sums of them, and ratios of the sums.

1. `contingency`, `boundary`: whole numbers of one tile, whatever its size; they add up.
2. `matching`, `panoptic`, `rand`, `information`, `pixels`: sums of one image from its table.
3. `measures`: scores are ratios of sums, of one image or of many; `intervals`: how sure they are.
4. `find`, `pairing`, `stream`: which images belong together, and how they are read.
5. `worst`, `drawing`, `page`: the pictures of what went wrong.

Counts are integers and the table is sorted, so a score has the same bits for every tiling.
"""
