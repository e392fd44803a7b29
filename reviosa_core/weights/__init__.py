"""Files in, a model out, and back: every layout that InternVL, SAM2 and ReVIOSa come in."""
