//! A file of the spool: a header, and then entries with their length and checksum before them.

use bytes::{Buf as _, Bytes};

/// What a segment begins with. The last byte is the version of its form.
pub(super) const HEADER: [u8; 8] = *b"iyspool\x01";
/// Length and CRC-32 of an entry, both little-endian, before it.
const FRAME: usize = 8;
/// An entry is some hundred bytes; what says to be longer is no entry.
pub(super) const LONGEST_ENTRY: usize = 64 << 10;

/// What a segment holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::limit) struct Contents {
    /// In the order in which they were written.
    pub(in crate::limit) entries: Vec<Bytes>,
    /// Entries whose checksum is wrong.
    pub(in crate::limit) damaged: usize,
    /// Whether its end is missing, or cannot be made out.
    pub(in crate::limit) torn: bool,
}

/// A segment of another version, or no segment at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not begin as a spool of this version does")]
pub(super) struct UnknownHeader;

/// Appends an entry in its frame.
pub(super) fn frame(entry: &[u8], to: &mut Vec<u8>) {
    let length = u32::try_from(entry.len()).expect("an entry should be shorter than 64 KiB");
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(&crc32fast::hash(entry).to_le_bytes());
    to.extend_from_slice(entry);
}

/// Reads all that can be read. A crash may have cut the last entry off: it was never acknowledged.
pub(super) fn parse(mut bytes: Bytes) -> Result<Contents, UnknownHeader> {
    let mut contents = Contents::default();
    if bytes.len() < HEADER.len() && HEADER.starts_with(&bytes) {
        contents.torn = true;
        return Ok(contents);
    }
    if !bytes.starts_with(&HEADER) {
        return Err(UnknownHeader);
    }
    bytes.advance(HEADER.len());
    while bytes.len() >= FRAME {
        let length = bytes.get_u32_le() as usize;
        let checksum = bytes.get_u32_le();
        if length == 0 || length > LONGEST_ENTRY || length > bytes.len() {
            contents.torn = true;
            return Ok(contents);
        }
        let entry = bytes.split_to(length);
        if crc32fast::hash(&entry) == checksum {
            contents.entries.push(entry);
        } else {
            contents.damaged += 1;
        }
    }
    contents.torn = !bytes.is_empty();
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        for entry in entries {
            frame(entry, &mut bytes);
        }
        bytes
    }

    fn entries() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8)
    }

    proptest! {
        #[test]
        fn what_was_written_whole_is_read_wherever_the_end_is_cut(
            entries in entries(), cut in any::<proptest::sample::Index>(),
        ) {
            let bytes = written(&entries);
            let length = cut.index(bytes.len() + 1);
            let contents = parse(Bytes::copy_from_slice(&bytes[..length])).unwrap();
            let mut ends = entries.iter().scan(HEADER.len(), |end, entry| {
                *end += FRAME + entry.len();
                Some(*end)
            });
            let whole = ends.clone().filter(|end| *end <= length).count();
            prop_assert_eq!(contents.entries.len(), whole);
            for (read, entry) in contents.entries.iter().zip(&entries) {
                prop_assert_eq!(read, entry);
            }
            prop_assert_eq!(contents.damaged, 0);
            let clean = length == HEADER.len() || ends.any(|end| end == length);
            prop_assert_eq!(contents.torn, !clean);
        }

        #[test]
        fn a_damaged_entry_is_left_out_and_the_others_stay(
            entries in entries(), which in any::<proptest::sample::Index>(), bit in 0..8_u8,
        ) {
            prop_assume!(!entries.is_empty());
            let which = which.index(entries.len());
            let before: usize = entries[..which].iter().map(|entry| FRAME + entry.len()).sum();
            let mut bytes = written(&entries);
            bytes[HEADER.len() + before + FRAME] ^= 1 << bit;
            let contents = parse(bytes.into()).unwrap();
            prop_assert_eq!(contents.damaged, 1);
            prop_assert!(!contents.torn);
            let mut left = entries.clone();
            left.remove(which);
            prop_assert_eq!(contents.entries, left);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(bytes.clone().into());
            let mut headed = HEADER.to_vec();
            headed.extend(bytes);
            prop_assert!(parse(headed.into()).is_ok());
        }
    }

    #[test]
    fn another_version_is_not_read() {
        let bytes = Bytes::from_static(b"iyspool\x02rest");
        assert_eq!(parse(bytes), Err(UnknownHeader));
    }
}
