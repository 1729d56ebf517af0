"""The residual-access statement: which ways in are dead, alive or unseen. Facts in, rows out; nothing is hidden."""
