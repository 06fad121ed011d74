//! The file format of the spool: a header, then entries, each preceded by its length, state and checksum.

use bytes::{Buf as _, Bytes};

/// The header of a segment; its last byte is the format version.
pub(super) const HEADER: [u8; 8] = *b"iyspool\x02";
/// The offset of the version.
pub(super) const VERSION_AT: u64 = 7;
/// The current version. Version 1 had no states.
pub(super) const VERSION: u8 = HEADER[7];
const FIRST_VERSION: u8 = 1;
/// Bytes before an entry: length (3), state (1) and CRC-32 (4), all little-endian.
const FRAME: usize = 8;
/// The state of an entry that still waits.
const WAITING: u8 = 0;
/// The state of an entry that is in the store or was set aside.
pub(super) const DONE: u8 = 0xd0;
/// Bytes of an entry at most; a longer length field is treated as damage. Entries have some hundred bytes.
pub(super) const LONGEST_ENTRY: usize = 64 << 10;

/// An entry that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Offset of its frame in the segment.
    pub(crate) at: u32,
    /// Its bytes without the frame.
    pub(crate) bytes: Bytes,
}

/// The contents of a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The waiting entries, in the order of writing.
    pub(crate) entries: Vec<Entry>,
    /// Number of entries with a wrong checksum.
    pub(crate) damaged: usize,
    /// Whether its end is missing or unreadable.
    pub(crate) torn: bool,
}

/// The header is of another version, or of no segment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not begin as a spool of this version does")]
pub(super) struct UnknownHeader;

/// Appends an entry with its frame.
pub(super) fn frame(entry: &[u8], to: &mut Vec<u8>) {
    let length = u32::try_from(entry.len()).expect("an entry should be shorter than 64 KiB");
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(&crc32fast::hash(entry).to_le_bytes());
    to.extend_from_slice(entry);
}

/// The offset of the state of the entry with its frame at `at`. A state is one byte, so a crash cannot leave half of
/// it.
pub(super) fn state_at(at: u32) -> u64 {
    u64::from(at) + 3
}

/// Reads all complete entries. A crash may have cut off the last one, which was then never acknowledged.
pub(super) fn parse(mut bytes: Bytes) -> Result<Contents, UnknownHeader> {
    let mut contents = Contents::default();
    let total = bytes.len();
    if total < HEADER.len() && HEADER.starts_with(&bytes) {
        contents.torn = true;
        return Ok(contents);
    }
    let versions = FIRST_VERSION..=VERSION;
    if total < HEADER.len() || bytes[..7] != HEADER[..7] || !versions.contains(&bytes[7]) {
        return Err(UnknownHeader);
    }
    bytes.advance(HEADER.len());
    while bytes.len() >= FRAME {
        let at = u32::try_from(total - bytes.len()).map_err(|_| UnknownHeader)?;
        let head = bytes.get_u32_le();
        let checksum = bytes.get_u32_le();
        let (length, state) = ((head & 0x00ff_ffff) as usize, head.to_le_bytes()[3]);
        let is_known = matches!(state, WAITING | DONE);
        if !is_known || length == 0 || length > LONGEST_ENTRY || length > bytes.len() {
            contents.torn = true;
            return Ok(contents);
        }
        let entry = bytes.split_to(length);
        if state == DONE {
        } else if crc32fast::hash(&entry) == checksum {
            contents.entries.push(Entry { at, bytes: entry });
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

    fn texts(contents: Contents) -> Vec<Bytes> {
        let entries = contents.entries.into_iter();
        entries.map(|entry| entry.bytes).collect()
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
            prop_assert_eq!(contents.damaged, 0);
            let clean = length == HEADER.len() || ends.any(|end| end == length);
            prop_assert_eq!(contents.torn, !clean);
            prop_assert_eq!(texts(contents), &entries[..whole]);
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
            prop_assert_eq!(texts(contents), left);
        }

        #[test]
        fn an_entry_that_is_done_is_left_out_and_the_others_stay(
            entries in entries(), which in any::<proptest::sample::Index>(), version in 1..=2_u8,
        ) {
            prop_assume!(!entries.is_empty());
            let which = which.index(entries.len());
            let mut bytes = written(&entries);
            bytes[7] = version;
            let at = parse(bytes.clone().into()).unwrap().entries[which].at;
            bytes[usize::try_from(state_at(at)).unwrap()] = DONE;
            let contents = parse(bytes.into()).unwrap();
            prop_assert_eq!((contents.damaged, contents.torn), (0, false));
            let mut left = entries.clone();
            left.remove(which);
            prop_assert_eq!(texts(contents), left);
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
        for version in [0, VERSION + 1] {
            let mut bytes = HEADER.to_vec();
            bytes[7] = version;
            bytes.extend_from_slice(b"rest");
            assert_eq!(parse(bytes.into()), Err(UnknownHeader));
        }
    }
}
