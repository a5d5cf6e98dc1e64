"""What the studies over many vectors found, as tables and sentences of the reports."""
