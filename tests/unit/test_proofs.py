"""Proofs of audit rows: trees, heads and bundles. Vectors and keys are somebody else's (shared/data/rfc6962, RFC 8032, Go)."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.proofs import verifier
from connectors.proofs.trees import TILE_WIDTH, Prover, Tree, TreeDamagedError
from connectors.proofs.verifier import (
    COLUMNS,
    ProofError,
    PublicKey,
    canonical_row,
    ed25519_verify,
    leaf_hash,
    node_hash,
    parse_note,
    split_notes,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(__file__).parents[3] / "shared/data/rfc6962"


def vectors(kind: str) -> list[dict[str, object]]:
    folder = VECTORS / kind
    if not folder.exists():
        pytest.skip(f"../shared/data/rfc6962/{kind} is not there")
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]


def decoded(value: object) -> bytes:
    return base64.b64decode(str(value or ""))


def proof_of(vector: dict[str, object]) -> list[bytes]:
    return [decoded(step) for step in vector["proof"] or ()]  # type: ignore[attr-defined]


def test_every_inclusion_vector_is_judged_as_it_says() -> None:
    """All 98, most of which must fail."""
    wrong = []
    for vector in vectors("inclusion"):
        leaf, root = decoded(vector["leafHash"]), decoded(vector["root"])
        try:
            verify_inclusion(vector["leafIdx"], vector["treeSize"], leaf, proof_of(vector), root)  # type: ignore[arg-type]
            failed = False
        except ProofError:
            failed = True
        if failed is not vector["wantErr"]:
            wrong.append(vector)
    assert not wrong


def test_every_consistency_vector_is_judged_as_it_says() -> None:
    """All 98, most of which must fail."""
    wrong = []
    for vector in vectors("consistency"):
        roots = decoded(vector["root1"]), decoded(vector["root2"])
        try:
            verify_consistency(vector["size1"], vector["size2"], *roots, proof_of(vector))  # type: ignore[arg-type]
            failed = False
        except ProofError:
            failed = True
        if failed is not vector["wantErr"]:
            wrong.append(vector)
    assert not wrong


def test_there_are_all_the_vectors() -> None:
    assert [
        (len(found), sum(not v["wantErr"] for v in found)) for found in map(vectors, ("inclusion", "consistency"))
    ] == [
        (98, 6),
        (98, 6),
    ]


def root_by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(root_by_definition(leaves[:split]), root_by_definition(leaves[split:]))


def grown(sizes: list[int]) -> tuple[Tree, dict[tuple[int, int], bytes], list[bytes]]:
    tree, tiles, leaves = Tree(), dict[tuple[int, int], bytes](), list[bytes]()
    for size in sizes:
        more = [leaf_hash(str(len(leaves) + i).encode()) for i in range(size)]
        for level, number, hashes in tree.append(more):
            assert (level, number) not in tiles
            tiles[level, number] = hashes
        leaves += more
        tree = Tree.load(tree.size, tree.stored())
    return tree, tiles, leaves


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 5000])
def test_a_tree_has_the_root_of_its_definition(size: int) -> None:
    tree, _, leaves = grown([size // 3, size - size // 3])
    assert tree.size == size
    assert tree.root() == root_by_definition(leaves)
    assert tree.root(leaves[:70]) == root_by_definition(leaves + leaves[:70])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 150), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_proofs_of_any_leaf_and_any_two_sizes_hold_and_hold_for_nothing_else(
    sizes: list[int], rng: random.Random
) -> None:
    tree, tiles, leaves = grown(sizes)
    if not leaves:
        return
    prover = Prover(tree, lambda level, number: tiles[level, number])
    for _ in range(10):
        size = rng.randint(1, len(leaves))
        index, old_size = rng.randrange(size), rng.randint(1, size)
        root, old_root = root_by_definition(leaves[:size]), root_by_definition(leaves[:old_size])
        proof = prover.inclusion(index, size)
        verify_inclusion(index, size, leaves[index], proof, root)
        with pytest.raises(ProofError):
            verify_inclusion(index, size, leaf_hash(b"another"), proof, root)
        steps = prover.consistency(old_size, size)
        verify_consistency(old_size, size, old_root, root, steps)
        with pytest.raises(ProofError):
            verify_consistency(old_size, size, leaf_hash(b"another"), root, steps)


def test_a_large_tree_is_proven_from_few_tiles() -> None:
    tree, tiles, leaves = grown([70_000])
    read = []

    def read_tile(level: int, number: int) -> bytes:
        read.append((level, number))
        return tiles[level, number]

    proof = Prover(tree, read_tile).inclusion(12_345, 70_000)
    verify_inclusion(12_345, 70_000, leaves[12_345], proof, tree.root())
    assert len(read) <= 4
    assert len(proof) == 17  # 2 ** 16 < 70,000 < 2 ** 17
    assert max(map(len, tree.open)) < TILE_WIDTH


def test_a_trees_row_of_another_length_is_damaged() -> None:
    with pytest.raises(TreeDamagedError, match="31 bytes, not 32"):
        Tree.load(1, b"x" * 31)


columns_of_any_kind = st.one_of(
    st.none(),
    st.text(max_size=300),
    st.binary(max_size=300),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.sampled_from([-129, -128, -33, -32, 0, 127, 128, 255, 256, 65535, 65536, -32768, -32769, 1 << 32]),
)


@given(st.lists(columns_of_any_kind, min_size=len(COLUMNS), max_size=len(COLUMNS)))
def test_canonical_bytes_are_messagepack(columns: list[object]) -> None:
    """The sink packs rows with a compiled encoder: both give the same bytes."""
    assert canonical_row(columns) == msgspec.msgpack.encode((1, *columns))


def test_long_values_are_packed_alike() -> None:
    columns: list[object] = ["a" * 70_000, b"b" * 70_000, *[None] * (len(COLUMNS) - 2)]
    assert canonical_row(columns) == msgspec.msgpack.encode((1, *columns))


def test_canonical_bytes_stay_as_they_are() -> None:
    """Of a row written down: whatever changes them makes every head that was ever kept worthless."""
    told = ("acme", "p-1", "payee", 40, "payee", "approved", "", 3, None)
    row = (*told, "payments.scored.v1", 2, 300, 1_764_000_000_000, b"\x00", "{}")
    assert canonical_row(row).hex() == (
        "dc001001a461636d65a3702d31a5706179656528a57061796565a8617070726f766564a003c0b27061796d656e74732e73636f7265642e7631"
        "02cd012ccf0000019ab697e800c40100a27b7d"
    )


@pytest.mark.parametrize("value", [1.5, True, 1 << 63, "\ud800", ["a"]])
def test_what_no_row_holds_has_no_bytes(value: object) -> None:
    with pytest.raises(ProofError):
        canonical_row([value] * len(COLUMNS))


# Signatures: RFC 8032, 7.1

RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246"
        "55141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb"
        "00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_signatures_of_rfc_8032_hold_and_no_other(key: str, message: str, signature: str) -> None:
    public, said, signed = map(bytes.fromhex, (key, message, signature))
    assert ed25519_verify(public, said, signed)
    assert not ed25519_verify(public, said + b"x", signed)
    for at in range(64):
        assert not ed25519_verify(public, said, signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])
    assert not ed25519_verify(public, said, signed[:-1])


def test_a_signature_is_checked_as_the_signing_library_makes_it() -> None:
    rng = random.Random(7)
    for _ in range(10):
        private, message = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32)), rng.randbytes(100)
        key, signature = private.public_key().public_bytes_raw(), private.sign(message)
        assert ed25519_verify(key, message, signature)
        # The same signature with another scalar (RFC 8032 5.1.7: it must be below the group's order).
        order = 2**252 + 27742317777372353535851937790883648493
        scalar = int.from_bytes(signature[32:], "little") + order
        assert not ed25519_verify(key, message, signature[:32] + scalar.to_bytes(32, "little"))


def test_a_public_key_of_go_is_read_and_written() -> None:
    """The example of golang.org/x/mod/sumdb/note."""
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = PublicKey.parse(text)
    assert str(key) == text
    message = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signed = base64.b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    assert signed[:4] == key.hash_under("PeterNeumann")
    assert ed25519_verify(key.key, message.encode(), signed[4:])


@pytest.mark.parametrize(
    "text", ["", "a", "a+b+c", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "a+00000000+AgAA"]
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ProofError):
        PublicKey.parse(text)


def test_a_checkpoint_of_the_specification_is_read() -> None:
    """The example of c2sp.org/tlog-checkpoint."""
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— example.com/behind-the-sofa"
        " Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    )
    head, [(name, data)] = parse_note(note)
    assert head.origin == name == "example.com/behind-the-sofa"
    assert head.size == 20852163
    assert len(data) == 4 + 64
    assert note.startswith(head.text() + "\n")
    assert split_notes(note + "\n" + note + "\n") == [note, note]
    for cut in range(1, len(note) + 1):
        with pytest.raises(ProofError, match="cut"):
            split_notes(note + "\n" + note[:cut])
    for damaged in (
        note[:-1],
        note.replace("\n20852163", "\n020852163"),
        note.replace("2I=\n", "2I=\nmore\n"),
        "x" + note[:40],
    ):
        with pytest.raises(ProofError):
            parse_note(damaged)


def test_the_verifier_needs_nothing_else() -> None:
    """It is copied alone: only the standard library, and no module of this project."""
    code = f"import runpy, sys; runpy.run_path({verifier.__file__!r}); print(*sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert (
        loaded & {"connectors", "pipeline", "schemas", "faust", "confluent_kafka", "cryptography", "msgspec"} == set()
    )
