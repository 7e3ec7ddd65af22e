"""Image data: where it comes from, how it is held, and how it is split."""

from benchmark.data.images import DataSet, FileImages, ImageSet, PixelImages
from benchmark.data.load import load
from benchmark.data.sources import SOURCES, check_source, datasets_table

__all__ = [
    "SOURCES",
    "DataSet",
    "FileImages",
    "ImageSet",
    "PixelImages",
    "check_source",
    "datasets_table",
    "load",
]
