"""Raw data formats to `Clip`, one file a format."""
