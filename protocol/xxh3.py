"""XXH3, 64 bits, seed 0: the hash by which group coordinators notice that topics have changed.

The algorithm is Yann Collet's (xxHash specification, "XXH3 algorithm overview"); Apache Kafka
stores its results in __consumer_offsets, so they must be the same here.
"""

from struct import unpack_from

_MASK = (1 << 64) - 1
_P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_P64 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
_MIX_RRMXMX = 0x9FB21C651E98DF25
_AVALANCHE = 0x165667919E3779F9
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_STRIPE = 64
_LANES = 8
_STRIPES_PER_BLOCK = (len(_SECRET) - _STRIPE) // 8
_LONG = 240


def xxh3_64(data: bytes) -> int:
    """The hash of these bytes, 0 to 2**64 - 1."""
    size = len(data)
    if size > _LONG:
        return _long(data)
    if size > 128:
        return _medium(data)
    if size > 16:
        return _short(data)
    return _tiny(data)


def _secret(at: int, count: int = 1) -> tuple[int, ...]:
    return unpack_from(f"<{count}Q", _SECRET, at)


def _avalanche(value: int) -> int:
    value ^= value >> 37
    value = value * _AVALANCHE & _MASK
    return value ^ value >> 32


def _avalanche_xxh64(value: int) -> int:
    value ^= value >> 33
    value = value * _P64[1] & _MASK
    value ^= value >> 29
    value = value * _P64[2] & _MASK
    return value ^ value >> 32


def _folded(a: int, b: int) -> int:
    """The product of 128 bits, its halves xored."""
    product = a * b
    return product & _MASK ^ product >> 64


def _swapped(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> 64 - by) & _MASK


def _tiny(data: bytes) -> int:
    size = len(data)
    if size > 8:
        a, b, c, d = _secret(24, 4)
        (first,), (last,) = unpack_from("<Q", data), unpack_from("<Q", data, size - 8)
        low, high = first ^ a ^ b, last ^ c ^ d
        return _avalanche((size + _swapped(low, 8) + high + _folded(low, high)) & _MASK)
    if size >= 4:
        a, b = _secret(8, 2)
        (first,), (last,) = unpack_from("<I", data), unpack_from("<I", data, size - 4)
        value = (last + (first << 32)) ^ a ^ b
        value ^= _rotated(value, 49) ^ _rotated(value, 24)
        value = value * _MIX_RRMXMX & _MASK
        value ^= (value >> 35) + size
        value = value * _MIX_RRMXMX & _MASK
        return int(value ^ value >> 28)
    if size:
        combined = data[0] << 16 | data[size >> 1] << 24 | data[-1] | size << 8
        a, b = unpack_from("<2I", _SECRET)
        return _avalanche_xxh64(combined ^ a ^ b)
    a, b = _secret(56, 2)
    return _avalanche_xxh64(a ^ b)


def _mixed(data: bytes, at: int, secret_at: int) -> int:
    low, high = unpack_from("<2Q", data, at)
    a, b = _secret(secret_at, 2)
    return _folded(low ^ a, high ^ b)


def _short(data: bytes) -> int:
    size = len(data)
    total = size * _P64[0]
    for step in range((size - 1) // 32 + 1):
        total += _mixed(data, 16 * step, 32 * step)
        total += _mixed(data, size - 16 * (step + 1), 32 * step + 16)
    return _avalanche(total & _MASK)


def _medium(data: bytes) -> int:
    size = len(data)
    total = size * _P64[0]
    for step in range(8):
        total += _mixed(data, 16 * step, 16 * step)
    total = _avalanche(total & _MASK)
    for step in range(8, size // 16):
        total += _mixed(data, 16 * step, 16 * (step - 8) + 3)
    total += _mixed(data, size - 16, 136 - 17)
    return _avalanche(total & _MASK)


def _long(data: bytes) -> int:
    size = len(data)
    lanes = [_P32[2], *_P64[:4], _P32[1], _P64[4], _P32[0]]
    last = (size - 1) // _STRIPE  # the last stripe ends with the data, however long that is
    for stripe in range(last):
        number = stripe % _STRIPES_PER_BLOCK
        _accumulate(lanes, data, stripe * _STRIPE, 8 * number)
        if number == _STRIPES_PER_BLOCK - 1:
            _scramble(lanes)
    _accumulate(lanes, data, size - _STRIPE, len(_SECRET) - _STRIPE - 7)
    total = size * _P64[0]
    keys = _secret(11, _LANES)
    for at in range(0, _LANES, 2):
        total += _folded(lanes[at] ^ keys[at], lanes[at + 1] ^ keys[at + 1])
    return _avalanche(total & _MASK)


def _accumulate(lanes: list[int], data: bytes, at: int, secret_at: int) -> None:
    words = unpack_from("<8Q", data, at)
    for lane, (word, key) in enumerate(zip(words, _secret(secret_at, _LANES), strict=True)):
        keyed = word ^ key
        lanes[lane ^ 1] = lanes[lane ^ 1] + word & _MASK
        lanes[lane] = lanes[lane] + (keyed & 0xFFFFFFFF) * (keyed >> 32) & _MASK


def _scramble(lanes: list[int]) -> None:
    for lane, key in enumerate(_secret(len(_SECRET) - _STRIPE, _LANES)):
        value = lanes[lane] ^ lanes[lane] >> 47 ^ key
        lanes[lane] = value * _P32[0] & _MASK
