"""Random values of random D-Bus types, the same ones for a seed."""

import random
from typing import Any

from dbus_next.signature import SignatureTree, SignatureType, Variant

_BASIC = "ybnqiuxtdsog"


class RandomValues:
    """Random values of random types, the same ones for a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def of_signature(self, signature: str) -> Any:
        """A value of one complete type."""
        return self.value(SignatureTree(signature).types[0])

    def signature(self, depth: int = 0) -> str:
        choice = self.random.random()
        if depth > 3 or choice < 0.5:
            return self.random.choice(_BASIC)
        if choice < 0.6:
            return "v"
        if choice < 0.75:
            return f"a{self.signature(depth + 1)}"
        if choice < 0.88:
            return f"({self.signature(depth + 1)}{self.signature(depth + 1)})"
        return f"a{{{self.random.choice(_BASIC)}{self.signature(depth + 1)}}}"

    def value(self, kind: SignatureType) -> Any:
        match kind.token:
            case "b":
                return self.random.random() < 0.5
            case "d":
                return self.random.choice([0.0, -1e300, float("inf"), float("nan")])
            case "s":
                return self.random.choice(["", "a", "é☃", "x" * 200])
            case "o":
                return self.random.choice(["/", "/a/b_1"])
            case "g":
                return self.random.choice(["", "s", "a{sv}", "(ii)h"])
            case "v":
                inner = self.signature(3)
                return Variant(inner, self.value(SignatureTree(inner).types[0]))
            case "(":
                return [self.value(child) for child in kind.children]
            case "a":
                return self.array(kind.children[0])
            case number:
                return self.number(number)

    def array(self, child: SignatureType) -> Any:
        count = range(self.random.randint(0, 3))
        match child.token:
            case "{":
                key, value = child.children
                return {self.value(key): self.value(value) for _ in count}
            case "y":
                return bytes(count)
            case _:
                return [self.value(child) for _ in count]

    def number(self, token: str) -> int:
        bits, signed = {
            "y": (8, False),
            "n": (16, True),
            "q": (16, False),
            "i": (32, True),
            "u": (32, False),
            "x": (64, True),
            "t": (64, False),
        }[token]
        value = self.random.getrandbits(bits)
        return value - 2 ** (bits - 1) if signed else value
