#!/usr/bin/env python3
"""Checks the proof that `awooop audit prove EVENT` prints, with nothing but Python's own hashlib.

    audit_proof.py PROOF [--head HEADS] [--public-key HEX]

With HEADS, a file of heads that you kept, the chain from the event's seal to one of them is checked. With a public
key that the operator gave you, and a library for Ed25519 (`cryptography` or `PyNaCl`), so is the seal's signature.
One of the two is needed: a path to a root that nobody vouches for proves nothing. Exit code 0: proved.
"""
import argparse
import hashlib
import json
import sys


def canonical(value):
    """RFC 8785 for what a seal says: ASCII names in order, whole numbers, no floating point."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(data):
    return hashlib.sha256(data).digest()


def root(leaf, index, size, path):
    """The root that a leaf leads to (RFC 9162, 2.1.3.2)."""
    assert 0 <= index < size, "the place is not in the tree"
    last, node = size - 1, leaf
    for neighbour in path:
        assert last > 0, "the path is too long"
        if index % 2 or index == last:
            node = sha256(b"\x01" + neighbour + node)
            while index % 2 == 0 and index:
                index, last = index // 2, last // 2
        else:
            node = sha256(b"\x01" + node + neighbour)
        index, last = index // 2, last // 2
    assert last == 0, "the path is too short"
    return node


def check_signature(public_key, signature, message):
    """True or an exception; None where no library is installed."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        return True
    except ImportError:
        pass
    try:
        from nacl.signing import VerifyKey

        VerifyKey(public_key).verify(message, signature)
        return True
    except ImportError:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("proof")
    parser.add_argument("--head", help="a file of heads that were kept, one a line")
    parser.add_argument("--public-key", help="the key of the seal, 64 hexadecimal digits")
    options = parser.parse_args()
    proof = json.load(open(options.proof, encoding="utf-8"))
    said = proof["seal"]["seal"]

    leaf = sha256(b"\x00" + proof["event"].encode())
    path = [bytes.fromhex(text) for text in proof["path"]]
    reached = root(leaf, proof["leaf_index"], said["count"], path)
    assert reached.hex() == said["root"], "the event is not in the seal"
    assert json.loads(proof["event"])["project"] == said["project"], "event and seal are of different projects"
    seal_hash = sha256(canonical(said)).hex()
    assert seal_hash == proof["seal"]["hash"], "the seal is not what was hashed"

    vouched = []
    if options.head:
        known = {json.loads(line)["hash"] for line in open(options.head, encoding="utf-8") if line.strip()}
        for later in proof["chain"]:
            assert later["prev_hash"] == seal_hash and later["project"] == said["project"], "the chain is broken"
            seal_hash = sha256(canonical(later)).hex()
        assert seal_hash in known, "the chain does not lead to a head that you kept"
        vouched.append("it leads to a head that you kept")
    if options.public_key:
        key, signature = bytes.fromhex(options.public_key), bytes.fromhex(proof["seal"]["signature"])
        if check_signature(key, signature, canonical(said)):
            vouched.append("its signature is the key's")
        else:
            print("the signature was not checked: install cryptography or PyNaCl", file=sys.stderr)
    assert vouched, "nothing vouches for the seal: name a --head or a --public-key that can be checked"
    event = json.loads(proof["event"])
    print(f"proved: {event['action']} of {event['subject']} by {event['actor']}, event {event['id']}")
    print(f"it is event {proof['leaf_index'] + 1} of {said['count']} in seal {said['n']}; " + "; ".join(vouched))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whatever is wrong with a proof, it proves nothing
        print(f"NOT proved: {error or type(error).__name__}", file=sys.stderr)
        sys.exit(1)
