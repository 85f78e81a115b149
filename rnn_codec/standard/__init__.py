"""Standard codecs, JPEG to AVIF: what the hybrid wing stores, and peers to compare with."""
