"""Checks proofs of audit rows. Imports only Python's standard library: copy this one file to check a bundle elsewhere.

    python verifier.py BUNDLE.json KEY.pub
    python verifier.py BUNDLES.jsonl KEY.pub     a bundle a line

Rows are leaves of Merkle trees as in RFC 6962, one tree per tenant and shard. A head is a signed note of the C2SP
checkpoint format (c2sp.org/tlog-checkpoint): origin, size, root, and an Ed25519 signature. Whoever kept a head can check
that a row is in the tree, and that a later tree only grew.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

#: What a bundle says of itself.
BUNDLE_FORMAT = "payment-pipeline audit bundle 1"
#: The first element of a row's canonical bytes: which columns follow, in which order.
ROW_FORMAT = 1
COLUMNS = (
    "tenant",
    "payment_id",
    "event_id",
    "sequence",
    "stage",
    "outcome",
    "reason",
    "rule_version",
    "trace_id",
    "topic",
    "partition",
    "offset",
    "recorded_at_ms",
    "avro",
    "payload",
)
TENANT, PAYMENT_ID, EVENT_ID, SHARD, AVRO = 0, 1, 2, COLUMNS.index("partition"), COLUMNS.index("avro")

HASH_BYTES = 32
#: Of the empty tree.
EMPTY_ROOT = hashlib.sha256(b"").digest()
#: The tenant part of an origin for rows of no tenant; no tenant is called so.
NO_TENANT = "-"
_DASH = "\N{EM DASH} "
_ED25519 = b"\x01"
#: Signature lines of a note that are looked at: the log's own, and witnesses'.
SIGNATURES_MAX = 100
_SIZE = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")
_NAME = re.compile(r"[^\s+]+\Z")


#: Whether, with this key over this message, this is the signature.
Check = Callable[[bytes, bytes, bytes], bool]


class ProofError(Exception):
    """What was to be proven is not; the text says what is wrong, and names no person."""


# Trees, RFC 6962


def leaf_hash(row: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + row).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash over two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Raise :class:`ProofError` unless the leaf with hash ``leaf`` is number ``index``, from 0, of the ``size`` under ``root``.

    RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    _check_hashes(leaf, root, *proof)
    at, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the proof is too long")
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the proof is too short")
    if found != root:
        raise ProofError(f"leaf {index} is not under this root of {size} leaves")


def verify_consistency(old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Raise :class:`ProofError` unless the first ``old_size`` leaves under ``root`` are those under ``old_root``.

    RFC 9162, 2.1.4.2. Nothing follows from an empty tree, so it is refused.
    """
    if not 0 < old_size <= size:
        raise ProofError(f"a tree of {size} leaves does not follow one of {old_size}")
    if old_size == size:
        if proof:
            raise ProofError("the proof is too long")
        if old_root != root:
            raise ProofError(f"two roots of {size} leaves differ")
        return
    if not proof:
        raise ProofError("the proof is too short")
    _check_hashes(old_root, root, *proof)
    at, last = old_size - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    # Where the old tree is one whole subtree, its root is not repeated in the proof.
    rest = list(proof) if at else [old_root, *proof]
    old_found = found = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            raise ProofError("the proof is too long")
        if at & 1 or at == last:
            old_found, found = node_hash(sibling, old_found), node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the proof is too short")
    if old_found != old_root:
        raise ProofError(f"the proof does not lead to the root of the first {old_size} leaves")
    if found != root:
        raise ProofError(f"the first {old_size} of {size} leaves are not what they were")


def _check_hashes(*hashes: bytes) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ProofError(f"a hash is not {HASH_BYTES} bytes")


# Rows


def canonical_row(columns: Sequence[object]) -> bytes:
    """The bytes of a row that its leaf covers: a MessagePack array of :data:`ROW_FORMAT` and :data:`COLUMNS`, each shortest.

    Columns are as they are stored. Raises :class:`ProofError` for a value that no row holds.
    """
    if len(columns) != len(COLUMNS):
        raise ProofError(f"a row has {len(COLUMNS)} columns, not {len(columns)}")
    return b"\xdc" + (len(columns) + 1).to_bytes(2, "big") + b"".join(map(_packed, (ROW_FORMAT, *columns)))


def _packed(value: object) -> bytes:
    if value is None:
        return b"\xc0"
    if isinstance(value, str):
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise ProofError("a text is no Unicode") from None
        return (bytes([0xA0 | len(data)]) if len(data) < 32 else _head(len(data), b"\xd9\xda\xdb")) + data
    if isinstance(value, bytes):
        return _head(len(value), b"\xc4\xc5\xc6") + value
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise ProofError(f"no row holds a {type(value).__name__} like this")
    if -32 <= value < 128:
        return value.to_bytes(1, "big", signed=True)
    if value > 0:
        width = next(width for width in (1, 2, 4, 8) if value < 1 << 8 * width)
        return bytes([0xCC + width.bit_length() - 1]) + value.to_bytes(width, "big")
    width = next(width for width in (1, 2, 4, 8) if value >= -(1 << 8 * width - 1))
    return bytes([0xD0 + width.bit_length() - 1]) + value.to_bytes(width, "big", signed=True)


def _head(length: int, codes: bytes) -> bytes:
    for code, width in zip(codes, (1, 2, 4), strict=True):
        if length < 1 << 8 * width:
            return bytes([code]) + length.to_bytes(width, "big")
    raise ProofError("a value is too long")


# Heads


class Head(NamedTuple):
    """A tree's size and root, and whose tree it is."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Whose signature counts: the log's name, and its Ed25519 key (32 bytes)."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read ``NAME+HASH+KEY``, as signed notes write keys. Raises :class:`ProofError`."""
        parts = text.strip().split("+", 2)
        data = _base64(parts[-1])
        if len(parts) != 3 or not _NAME.match(parts[0]) or data is None or data[:1] != _ED25519 or len(data) != 33:
            raise ProofError("this is no public key of signed notes (NAME+HASH+KEY, Ed25519)")
        found = cls(parts[0], data[1:])
        if found.hash_under(found.name).hex() != parts[1]:
            raise ProofError(f"the public key of {found.name} is damaged: its hash is wrong")
        return found

    def __str__(self) -> str:
        return f"{self.name}+{self.hash_under(self.name).hex()}+{base64.b64encode(_ED25519 + self.key).decode()}"

    def hash_under(self, name: str) -> bytes:
        """What finds the signature of this key under ``name`` in a note."""
        return hashlib.sha256(name.encode() + b"\n" + _ED25519 + self.key).digest()[:4]

    def open(self, note: str, check: Check | None = None) -> Head:
        """The head in ``note``, when this key signed it: by ``check``, :func:`ed25519_verify` by default.

        Raises :class:`ProofError`. The log signs each of its trees under the tree's origin, ``NAME/TENANT/SHARD``.
        """
        head, signatures = parse_note(note)
        if not head.origin.startswith(f"{self.name}/"):
            raise ProofError(f"this is a head of another log: {head.origin}, and not one of {self.name}")
        wanted = self.hash_under(head.origin)
        for name, data in signatures:
            if name == head.origin and data[:4] == wanted:
                if not (check or ed25519_verify)(self.key, head.text().encode(), data[4:]):
                    raise ProofError(f"the signature of {head.origin} at {head.size} is wrong: the head was changed")
                return head
        raise ProofError(f"the head of {head.origin} at {head.size} was not signed by this key: it is the wrong one")


def origin_of(name: str, tenant: str, shard: int) -> str:
    """The origin of the tree of ``tenant`` and ``shard`` in the log called ``name``."""
    return f"{name}/{tenant or NO_TENANT}/{shard}"


def tree_of(origin: str) -> tuple[str, int]:
    """Tenant and shard of an origin. Raises :class:`ProofError`."""
    parts = origin.rsplit("/", 2)
    if len(parts) != 3 or not _SIZE.match(parts[2]):
        raise ProofError(f"{origin} is no origin of a tree of audit rows")
    return ("" if parts[1] == NO_TENANT else parts[1], int(parts[2]))


def parse_note(note: str) -> tuple[Head, list[tuple[str, bytes]]]:
    """A note's head and its signatures, each a name and what is signed under it. Raises :class:`ProofError`."""
    text, blank, rest = note.rpartition("\n\n")
    lines = rest.split("\n")[:-1]
    if not blank or not rest.endswith("\n") or not 0 < len(lines) <= SIGNATURES_MAX:
        raise ProofError("this is no signed note, or a part of one")
    signatures = []
    for line in lines:
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        data = _base64(encoded)
        if not line.startswith(_DASH) or not _NAME.match(name) or data is None or len(data) < 5:
            raise ProofError("a signature line of the note is damaged")
        signatures.append((name, data))
    origin, size, root = [*text.split("\n"), "", "", ""][:3]
    decoded = _base64(root)
    # Exactly three lines: what is signed must be what is read.
    if not origin or text.count("\n") != 2 or not _SIZE.match(size) or decoded is None or len(decoded) != HASH_BYTES:
        raise ProofError("the note is no head: origin, size, root")
    return Head(origin, int(size), decoded), signatures


def split_notes(text: str) -> list[str]:
    """The notes of a file of heads, each ended by an empty line. Raises :class:`ProofError` where the file is cut."""
    parts = text.split("\n\n")
    if text and parts[-1]:
        raise ProofError("the file is cut: it ends in the middle of a head")
    parts = parts[:-1]
    if len(parts) % 2:
        raise ProofError("the file is cut: a head has no signature")
    return [f"{text}\n\n{signatures}\n" for text, signatures in zip(parts[::2], parts[1::2], strict=True)]


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


# Ed25519, RFC 8032: only checking, where everything is public, so that no time can tell a secret.

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
#: X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z.
_Point = tuple[int, int, int, int]


def ed25519_verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` was made with the private half of ``key``."""
    if len(key) != 32 or len(signature) != 64:
        return False
    public, commitment, scalar = _point(key), _point(signature[:32]), int.from_bytes(signature[32:], "little")
    if public is None or commitment is None or scalar >= _ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % _ORDER
    left, right = _times(scalar, _BASE), _sum(commitment, _times(challenge, public))
    return (left[0] * right[2] - right[0] * left[2]) % _P == 0 and (left[1] * right[2] - right[1] * left[2]) % _P == 0


def _sum(one: _Point, other: _Point) -> _Point:
    a, b = (one[1] - one[0]) * (other[1] - other[0]) % _P, (one[1] + one[0]) * (other[1] + other[0]) % _P
    c, d = 2 * one[3] * other[3] * _D % _P, 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _times(factor: int, point: _Point) -> _Point:
    total = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            total = _sum(total, point)
        point, factor = _sum(point, point), factor >> 1
    return total


def _point(data: bytes) -> _Point | None:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= _P:
        return None
    squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(squared, (_P + 3) // 8, _P)
    if (x * x - squared) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - squared) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return (x, y, 1, x * y % _P)


_found = _point((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
assert _found is not None
_BASE: _Point = _found


# Bundles


@dataclass(frozen=True, slots=True)
class Verified:
    """What a bundle proves: these rows, as :data:`COLUMNS`, are in the logs of these heads."""

    tenant: str
    payment_id: str
    rows: list[tuple[Any, ...]]
    heads: list[Head]


def verify_bundle(text: str | bytes, key: PublicKey) -> Verified:
    """Check every row of a bundle against its head, and the heads against ``key``. Raises :class:`ProofError`.

    That there are no more rows of the payment is told by checking the whole database only.
    """
    try:
        bundle = json.loads(text)
    except ValueError:
        raise ProofError("this is no whole bundle: the file is cut, or is something else") from None
    if not isinstance(bundle, dict) or bundle.get("format") != BUNDLE_FORMAT:
        raise ProofError(f"this is no bundle: its format is not {BUNDLE_FORMAT!r}")
    try:
        tenant, payment_id = str(bundle["tenant"]), str(bundle["payment_id"])
        heads = [key.open(note) for note in bundle["heads"]]
        rows = [_verified_row(number, item, heads, tenant, payment_id) for number, item in enumerate(bundle["rows"], 1)]
    except (LookupError, TypeError, AttributeError, binascii.Error) as error:
        raise ProofError(f"the bundle is damaged: {type(error).__name__}") from None
    if not rows:
        raise ProofError("the bundle holds no row")
    if len({row[EVENT_ID] for row in rows}) < len(rows):
        raise ProofError("the bundle holds an event twice")
    return Verified(tenant, payment_id, rows, heads)


def _verified_row(
    number: int, item: dict[str, Any], heads: list[Head], tenant: str, payment_id: str
) -> tuple[Any, ...]:
    columns = list(item["row"])
    if columns[AVRO] is not None:
        columns[AVRO] = base64.b64decode(columns[AVRO], validate=True)
    row, head = tuple(columns), heads[item["head"]]
    name = f"row {number} (event {row[EVENT_ID]!r})"
    if (row[TENANT], row[PAYMENT_ID]) != (tenant, payment_id):
        raise ProofError(f"{name} is of another payment")
    if tree_of(head.origin) != (row[TENANT], row[SHARD]):
        raise ProofError(f"{name} is not of the tree {head.origin}")
    proof = [base64.b64decode(step, validate=True) for step in item["proof"]]
    try:
        verify_inclusion(item["leaf_index"], head.size, leaf_hash(canonical_row(row)), proof, head.root)
    except ProofError as error:
        raise ProofError(f"{name} is wrong: {error}") from None
    return row


def verify_file(name: str, file: Iterable[bytes], key: PublicKey) -> Iterator[Verified]:
    """Check the bundle in a file, or each of one called ``*.jsonl``, a bundle a line; as each is asked for.

    Raises :class:`ProofError`, which names the line, also when there is none.
    """
    if not name.endswith(".jsonl"):
        yield verify_bundle(b"".join(file), key)
        return
    number = 0
    for number, line in enumerate(file, 1):
        try:
            yield verify_bundle(line, key)
        except ProofError as error:
            raise ProofError(f"line {number}: {error}") from None
    if not number:
        raise ProofError("the file holds no bundle")


def main(arguments: Sequence[str]) -> int:
    """Check the bundle ``arguments[0]`` with the public key in the file ``arguments[1]``; 0 when it holds."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    heads: set[Head] = set()
    bundles = rows = 0
    try:
        with open(arguments[1], encoding="utf-8") as key_file, open(arguments[0], "rb") as file:
            key = PublicKey.parse(key_file.read())
            for found in verify_file(arguments[0], file, key):
                bundles, rows = bundles + 1, rows + len(found.rows)
                heads.update(found.heads)
    except (ProofError, OSError, UnicodeDecodeError) as error:
        print(f"NOT PROVEN: {error}", file=sys.stderr)
        return 1
    print(f"{rows} rows in {bundles} bundles are in the log:")
    for head in sorted(heads):
        print(f"  {head.origin} at {head.size}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
