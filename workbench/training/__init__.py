"""From contrast pairs to a trained vector, LoRA or local weight: SFT, RePS and SPLIT."""
