"""ReVIOSa workbook: interaction-aware referring video object segmentation."""

import warnings

__version__ = "0.1.0"

warnings.filterwarnings("ignore", message="IProgress not found")  # without widgets, progress bars are text: fine
