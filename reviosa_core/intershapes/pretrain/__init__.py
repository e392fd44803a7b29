"""Phase (a) of the tiny profile: scenes in, what InternVL-2.5 and SAM2 checkpoints are to the paper out."""
