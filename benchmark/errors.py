"""The one exception that means: the input is wrong, and the program is not."""


class UserError(ValueError):
    """Bad input. The message is one sentence: what was wrong, where (file and key), what is allowed.

    The command line prints it after ``error:`` and exits with 2, without a traceback.
    """
