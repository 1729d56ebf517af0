"""The generated reference pages: one module per page, each with ``page() -> str``. Facts come from the code alone."""
