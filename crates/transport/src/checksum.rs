//! CRC-32C (Castagnoli): by the processor where `std` is there to find out what it can do, by
//! table elsewhere; the same values either way.

#[cfg(feature = "std")]
use crc_fast::{CrcAlgorithm::Crc32Iscsi, Digest};

/// The CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    #[cfg(feature = "std")]
    return crc_fast::checksum(Crc32Iscsi, bytes) as u32;
    #[cfg(not(feature = "std"))]
    table(0, bytes)
}

/// The CRC-32C of what `checksum` covers followed by `bytes`; 0 covers nothing.
#[cfg(feature = "std")]
#[must_use]
pub fn crc32c_append(checksum: u32, bytes: &[u8]) -> u32 {
    // Its register is inverted at either end.
    let mut digest = Digest::new_with_init_state(Crc32Iscsi, u64::from(!checksum));
    digest.update(bytes);
    digest.finalize() as u32
}

/// The CRC-32C of what `checksum` covers followed by `bytes`; 0 covers nothing.
#[cfg(not(feature = "std"))]
#[must_use]
pub fn crc32c_append(checksum: u32, bytes: &[u8]) -> u32 {
    table(checksum, bytes)
}

#[cfg(any(test, not(feature = "std")))]
fn table(checksum: u32, bytes: &[u8]) -> u32 {
    static TABLE: crc::Crc<u32, crc::Table<16>> =
        crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISCSI);
    // The library starts from a register that it reflects and that it does not invert: undo both.
    let mut digest = TABLE.digest_with_initial((!checksum).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree_with_the_standard_and_with_each_other() {
        // RFC 3720, appendix B.4
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(table(0, &[0; 32]), 0x8a91_36aa);
        let bytes: alloc::vec::Vec<u8> = (0..=255).collect();
        for cut in [0, 1, 7, 100, 256] {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(crc32c_append(crc32c(head), tail), crc32c(&bytes));
            assert_eq!(table(table(0, head), tail), crc32c(&bytes));
        }
    }

    #[test]
    fn every_length_agrees_with_the_table_from_any_beginning() {
        let bytes: alloc::vec::Vec<u8> = (0..5000_u32).map(|n| (n * n / 7) as u8).collect();
        for len in (0..1100).chain([2047, 2048, 2049, 4096, 4983]) {
            let bytes = &bytes[len % 17..][..len];
            assert_eq!(crc32c(bytes), table(0, bytes), "{len} bytes");
            for checksum in [0, 1, 0x8a91_36aa, u32::MAX] {
                assert_eq!(crc32c_append(checksum, bytes), table(checksum, bytes), "{len} bytes");
            }
        }
    }
}
