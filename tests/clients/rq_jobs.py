"""What the jobs of rq do in streams.py: it runs nothing of a script's own module."""

ATTEMPTS = []


def double(number):
    return number * 2


def shaky():
    ATTEMPTS.append(1)
    if len(ATTEMPTS) < 3:
        raise ValueError("not yet")
    return len(ATTEMPTS)
