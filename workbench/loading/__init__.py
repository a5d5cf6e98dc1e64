"""Loading a model: from a name, a path or the hub to checked layers and their sites."""
