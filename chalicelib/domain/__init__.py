"""The payment domain: pure, standard library only; the current time is always passed in."""
