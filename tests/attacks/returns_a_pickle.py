"""Return what runs when unpickled or poses as text. Verdict: double 0, add_halves 2."""

import pickle


class Payload(str):
    def __reduce__(self):
        return (open, ("@OUTSIDE@/unpickled", "w"))


def double(x):
    return Payload("harmless") if x is not None else pickle.dumps(Payload("harmless"))


def add_halves(x, y):
    return (x + y) / 2
