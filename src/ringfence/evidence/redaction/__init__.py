"""What is taken out of a copy that leaves the house: where it is found (``rules``, ``hunt``), and how it is taken out
of texts (``lines``) and of JSON (``tree``)."""
