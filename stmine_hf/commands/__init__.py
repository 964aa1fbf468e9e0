"""The commands of `stmine`, one module per family; `stmine_hf.cli` assembles them."""
