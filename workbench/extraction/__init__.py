"""From contrast pairs to a steering vector, and to the layer where it acts."""
