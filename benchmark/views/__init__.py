"""Views of an image: recipes as values, what is drawn for them, and two places where they are made.

``recipes`` says what is done, ``draws`` with which numbers. Images in files are decoded, cropped, resized and flipped
one by one in loading processes (``files``); all the rest, and everything of images in memory, is done to whole batches
where the network is (``batched``).
"""

from benchmark.views.recipes import PROBE_CROPS, PROBE_SQUARES, RECIPES, Operation, Recipe, View, recipe

__all__ = ["PROBE_CROPS", "PROBE_SQUARES", "RECIPES", "Operation", "Recipe", "View", "recipe"]
