"""The checks of `stmine publish check`: files, code, card, and loading without this package."""
