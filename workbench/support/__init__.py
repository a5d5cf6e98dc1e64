"""What every room uses: checks of arguments, files and caches, logs, versions, tables, wording."""
