//! Merkle trees as RFC 6962 has them (section 2.1): SHA-256, a leaf is hashed behind 0x00 and a node behind
//! 0x01, so that neither can pass for the other, and a tree is split at the greatest power of two below its
//! size. A proof is the list of neighbours from the leaf up; checking it needs nothing but the root.

use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// The hash of a leaf.
pub fn leaf(content: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(content).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the tree over these leaves' hashes, in this order. That of no leaf is the hash of nothing.
pub fn root(leaves: &[Hash]) -> Hash {
    if leaves.is_empty() {
        return Sha256::digest([]).into();
    }
    // level by level: a last one without a neighbour moves up as it is, which is the split of the RFC
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        let mut above = Vec::with_capacity(level.len().div_ceil(2));
        for pair in level.chunks(2) {
            above.push(match pair {
                [left, right] => node(left, right),
                [only] => *only,
                _ => unreachable!("chunks of two have one or two members"),
            });
        }
        level = above;
    }
    level[0]
}

/// The neighbours of leaf `index` from the bottom to the root; `None` for a leaf that the tree does not have.
pub fn path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut path, mut begin, mut end) = (Vec::new(), 0, leaves.len());
    // from the top down, and turned round at the end
    while end - begin > 1 {
        let split = begin + split(end - begin);
        if index < split {
            path.push(root(&leaves[split..end]));
            end = split;
        } else {
            path.push(root(&leaves[begin..split]));
            begin = split;
        }
    }
    path.reverse();
    Some(path)
}

/// The greatest power of two below `size`, which is at least 2.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

/// The root that a leaf at `index` of a tree of `size` leaves leads to along `path` (RFC 9162, 2.1.3.2); `None`
/// when the path does not fit the tree.
pub fn climb(leaf: &Hash, index: usize, size: usize, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for neighbour in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            hash = node(neighbour, &hash);
            while at % 2 == 0 && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            hash = node(&hash, neighbour);
        }
        at /= 2;
        last /= 2;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The RFC's recursive definition, word for word.
    fn model(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => Sha256::digest([]).into(),
            1 => leaves[0],
            n => {
                let mut k = 1;
                while k * 2 < n {
                    k *= 2;
                }
                node(&model(&leaves[..k]), &model(&leaves[k..]))
            }
        }
    }

    fn leaves(count: usize, seed: u64) -> Vec<Hash> {
        (0..count).map(|i| leaf(format!("{seed}/{i}").as_bytes())).collect()
    }

    fn check(leaves: &[Hash]) {
        let root = root(leaves);
        assert_eq!(root, model(leaves));
        for (index, leaf) in leaves.iter().enumerate() {
            let path = path(leaves, index).unwrap();
            let at = |index, size, path: &[Hash]| climb(leaf, index, size, path) == Some(root);
            assert!(at(index, leaves.len(), &path));
            assert!(
                [index ^ 1, index + 1, index / 2].iter().all(|&i| i == index || !at(i, leaves.len(), &path))
            );
            if !path.is_empty() {
                assert!(!at(index, leaves.len(), &path[1..]));
                let mut wrong = path.clone();
                wrong[0][0] ^= 1;
                assert!(!at(index, leaves.len(), &wrong));
            }
            let mut longer = path.clone();
            longer.push([0; 32]);
            assert!(!at(index, leaves.len(), &longer));
        }
        assert_eq!(path(leaves, leaves.len()), None);
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved_and_nothing_else_is() {
        for count in 0..70 {
            check(&leaves(count, 7));
        }
    }

    #[test]
    fn the_published_vectors_come_out() {
        // of the Certificate Transparency project's reference tests
        let hex = crate::json::hex;
        assert_eq!(hex(&root(&[])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(&leaf(&[])), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        let inputs: [&[u8]; 3] = [&[], &[0], &[0x10]];
        let three: Vec<Hash> = inputs.iter().map(|input| leaf(input)).collect();
        assert_eq!(hex(&root(&three)), "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn trees_of_any_size_agree_with_the_recursive_definition(count in 0usize..700, seed: u64) {
            let leaves = leaves(count, seed);
            let found = root(&leaves);
            prop_assert_eq!(found, model(&leaves));
            if count > 0 {
                let index = usize::try_from(seed % count as u64).unwrap();
                let path = path(&leaves, index).unwrap();
                prop_assert_eq!(climb(&leaves[index], index, count, &path), Some(found));
                prop_assert_ne!(climb(&leaf(b"other"), index, count, &path), Some(found));
            }
        }
    }
}
