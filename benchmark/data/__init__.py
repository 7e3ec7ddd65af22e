"""Image data: where it comes from, how it is held, and how it is split."""

from benchmark.data.datasets import datasets_table
from benchmark.data.images import DataSet, FileImages, ImageSet, Input, PixelImages, Points
from benchmark.data.spec import DataSpec, load

__all__ = ["DataSet", "DataSpec", "FileImages", "ImageSet", "Input", "PixelImages", "Points", "datasets_table", "load"]
