"""What an intervention does inside a model: affine updates and maps, tensors only."""
