"""The outside world, a module per system: facts in, changes out, no policy. No foreign exception leaves this room."""
