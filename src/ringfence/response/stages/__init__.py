"""What each action of the catalogue does in a run: one module for each kind of work, and the table of them all."""
