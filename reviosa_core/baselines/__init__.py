"""Clips and sentences in, masks of the actor out: ReferFormer, IFIRVOS and SOC, three systems of queries in one kit."""
