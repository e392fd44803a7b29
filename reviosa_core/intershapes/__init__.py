"""The embedded world: numbers in, clips with all that is known of them out, and backbones that were trained on them."""
