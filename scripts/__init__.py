"""What maintains the repository itself; nothing in ``src`` knows about it."""
