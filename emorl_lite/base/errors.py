"""The one error a user sees: a mistake in the input, told in one line."""


class UserError(ValueError):
    """A mistake in what the user gave. The message names the file, row, option or adapter; the command line prints just that."""
