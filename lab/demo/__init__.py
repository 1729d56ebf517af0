"""``make demo``: an attack on the lab and the response to it, live. One module for each scenario."""
