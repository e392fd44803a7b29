"""ReVIOSa workbook: interaction-aware referring video object segmentation."""

__version__ = "0.1.0"
