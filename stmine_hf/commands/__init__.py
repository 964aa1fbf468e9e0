"""The commands of `stmine`, a module for each of their families; `stmine_hf.cli` puts them together."""
