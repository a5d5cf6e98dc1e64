"""What one steers with: vectors, LoRAs, local weights; their files, controls and likeness."""
