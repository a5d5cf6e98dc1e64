"""Steering that stays: edited models, baked checkpoints, shared vectors, the field's harness."""
