"""The command `map`: every weight at once for anybody's prompts, adapters or models, and rewards, written as tables and as a page."""
