//! Identity files of random and mutated bytes: no panic, and what is read is what was written.

#[path = "../src/identity.rs"]
#[allow(dead_code, unreachable_pub, reason = "one private function of it is under test")]
mod identity;

use identity::parse;
use quorate_transport::Rng;

fn iterations() -> u64 {
    let text = std::env::var("QUORATE_FUZZ_ITERATIONS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

#[test]
fn an_identity_file_is_read_as_it_was_written_or_refused() {
    let mut rng = Rng::new(3);
    let (mut read, mut refused) = (0, 0);
    for round in 0..iterations() {
        let number = |rng: &mut Rng| rng.next_u64() >> rng.below(64);
        let words = [number(&mut rng), number(&mut rng), number(&mut rng)];
        let [cluster, node, incarnation] = words;
        let good = format!("cluster {cluster}\nnode {node}\nincarnation {incarnation}\n");
        let mut bytes = good.clone().into_bytes();
        for _ in 0..rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(4) {
                0 => bytes.truncate(at + 1),
                1 => bytes[at] = rng.next_u64() as u8,
                2 => bytes.insert(at, b'0' + rng.below(10) as u8),
                _ => bytes.extend_from_within(at..),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match parse(&text) {
            Some(found) => {
                read += 1;
                let identity::Identity { cluster, node, incarnation } = found;
                let (cluster, node, incarnation) = (cluster.0, node.0, incarnation.0);
                let again = format!("cluster {cluster}\nnode {node}\nincarnation {incarnation}\n");
                assert_eq!(parse(&again), Some(found), "round {round}");
                if text == good {
                    assert_eq!([cluster, node, incarnation], words, "round {round}");
                }
            }
            None => refused += 1,
        }
    }
    let few = iterations() / 20;
    assert!(read > few && refused > few, "{read} read, {refused} refused");
}
