"""The ReVIOSa model: InternVL + LoRA + SAM2, joined by role tokens."""
