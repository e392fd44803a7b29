"""Videos and sentences in, folders of masks and pictures out: what `reviosa predict` runs."""
