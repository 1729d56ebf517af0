"""Entry of the bank's image: ``python3 /app/main.py SERVICE``."""

import runpy

runpy.run_module("services", run_name="__main__", alter_sys=True)
