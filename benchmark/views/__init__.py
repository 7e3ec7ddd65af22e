"""Views of an image: recipes as values, and two executors that give the same distribution of views.

``recipes`` says what is done; ``per_image`` does it to one decoded image with torchvision, ``batched`` to a whole batch
of tensors with a draw of its own for every image.
"""

from benchmark.views.recipes import PROBE_CROPS, RECIPES, Operation, Recipe, View, recipe

__all__ = ["PROBE_CROPS", "RECIPES", "Operation", "Recipe", "View", "recipe"]
