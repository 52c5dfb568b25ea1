"""What inhouse costs: each folder measures one thing, with one command. Not part of the package."""
