"""The response: a fixed sequence of steps over the journal, with the gates that no step gets around."""
