"""Frames and questions in, answers, masks and attention out: InternVL with role tokens, SAM2 with a language prompt."""
