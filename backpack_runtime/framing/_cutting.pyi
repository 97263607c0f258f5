# The twin of `cutting` in C.

from backpack_proto.inputs import Fact

def slice_texts(data: bytes, pos: int, longest: int, received_us: int | None, facts: list[Fact], /) -> int: ...
