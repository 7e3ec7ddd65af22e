"""Image data: where it comes from, how it is held, and how it is split."""

from benchmark.data.images import DataSet, FileImages, ImageSet, PixelImages, Points
from benchmark.data.load import load
from benchmark.data.sources import SOURCES, check_source, datasets_table

__all__ = [
    "SOURCES",
    "DataSet",
    "FileImages",
    "ImageSet",
    "PixelImages",
    "Points",
    "check_source",
    "datasets_table",
    "load",
]
