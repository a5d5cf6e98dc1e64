"""One steered forward and one steered decoding: the only room that opens nnsight traces."""
