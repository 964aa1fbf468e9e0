"""What `stmine publish check` looks at: files, code, card, and whether a stranger can load it."""
